//! Writes the definitions to `crds/yaml`: `cargo run -p weir-crds --example generate`.

use weir_crds::crds::{crd_yaml, crds, file_name};

fn main() -> std::io::Result<()> {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    std::fs::create_dir_all(&directory)?;
    for crd in crds() {
        std::fs::write(directory.join(file_name(&crd)), crd_yaml(&crd))?;
    }
    Ok(())
}
