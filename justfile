# What one does all the time. `just` without arguments lists the recipes.

_default:
    @just --list

# Weir on this machine: three streamers, one of them killed and brought back (--stay leaves it running)
demo *flags:
    cargo demo {{flags}}

# Unit, property and end-to-end tests; the first run builds a Kubernetes control plane
test *flags:
    cargo test --workspace --locked {{flags}}

# Formatting and clippy, as CI has them
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Write the CustomResourceDefinitions anew from the types
crds:
    cargo run --locked -p weir-crds --example generate

# Write the table of the chart's values anew
chart:
    cd e2e/helm-docs && go tool helm-docs --chart-search-root=../../charts --log-level=warning

# Write the example without the webhook anew from examples/workload.yaml
examples file="examples/without-webhook/workload.yaml":
    sed '/^#/!d' {{file}} > {{file}}.new
    cargo run --locked -p weir-operator -- inject -f examples/workload.yaml --sidecar-image weir.dev/weir-sidecar:0.1.0 \
        --feed https://weir-feed.weir-system.svc:9443 >> {{file}}.new
    mv {{file}}.new {{file}}

# Licences, sources and bans of everything that Weir is built from
deny:
    cargo deny --locked check licenses sources bans

# A Kubernetes control plane to try things on; prints its kubeconfig
control-plane *flags:
    cargo run --locked -p weir-e2e --bin control-plane -- {{flags}}

# What the images hold, into target/dist: static programs and the licences of what they are made of
dist:
    dist/build

# OCI archives of the images, target/images/NAME.tar, with their sizes (buildah or docker)
images: dist
    dist/images

# What goes on a real node, with these images (root, Linux; says what is missing), or in the cluster of WEIR_E2E_KUBECONFIG
test-node *flags: images
    cargo test --workspace --locked --test node -- --include-ignored {{flags}}

# A Kubernetes node to try things on, with these images; says how to get there
node: images
    cargo run --locked --bin node

# Everything that CI does
ci:
    .ci/run
