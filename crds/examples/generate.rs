//! Writes the definitions to `crds/yaml` and into the chart: `cargo run -p weir-crds --example generate`.

use std::path::Path;

use weir_crds::crds::{crd_yaml, crds, file_name};

fn main() -> std::io::Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Helm reads no file outside a chart.
    for directory in [here.join("yaml"), here.join("../charts/weir/files/crds")] {
        std::fs::create_dir_all(&directory)?;
        for crd in crds() {
            std::fs::write(directory.join(file_name(&crd)), crd_yaml(&crd))?;
        }
    }
    Ok(())
}
