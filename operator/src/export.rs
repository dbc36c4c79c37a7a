//! `weir-operator export`: what a directory of manifests and its state hold, as manifests for a cluster.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use crate::cluster::manifests::{self, StateError};
use crate::text::yaml;

/// What stands before the objects.
const HEAD: &str = "\
# From weir-operator export. It holds passwords, and the keys that prove what sidecars serve.
# kubectl apply --server-side -f THIS, while no operator of the cluster runs.
";

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The directory of manifests.
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
    /// Where Placements and keys are kept.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// As the operator's: only this namespace; may be given several times. By default all.
    #[arg(long, value_name = "NS")]
    namespace: Vec<String>,
    /// The namespace of the cluster's operator, which gets the keys.
    #[arg(long, value_name = "NS", default_value = "weir-system")]
    own_namespace: String,
    /// The operator's token file: tokens of weir-operator token create are good in the cluster, too.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Prints the objects to `out`, and what is wrong with them to `err`.
pub fn run(args: ExportArgs, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<()> {
    let options = manifests::export::Options {
        manifests: args.manifests,
        state: args.state,
        namespaces: args.namespace.into_iter().collect(),
        own_namespace: args.own_namespace,
        token_file: args.token_file,
    };
    let export = manifests::export::export(&options).map_err(|StateError(why)| anyhow::Error::msg(why))?;
    for warning in &export.warnings {
        writeln!(err, "weir-operator: {warning}")?;
    }
    // Whole or not at all: half of it, applied, would stop streams.
    let mut text = HEAD.to_owned();
    for object in &export.objects {
        text.push_str("---\n");
        text.push_str(&yaml(object)?);
    }
    Ok(out.write_all(text.as_bytes())?)
}
