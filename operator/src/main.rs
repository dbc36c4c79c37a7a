//! The operator's binary: everything is in the library.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use weir_operator::cli::{Cli, Command, LogFormat};
use weir_operator::inject::offline;
use weir_operator::{check, export, get, run, token, webhook};

fn main() -> ExitCode {
    let cli = Cli::parse();
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&format!("the run time cannot be started: {error}")),
    };
    match cli.command {
        Command::Crds => {
            print!("{}", weir_crds::crds_yaml());
            ExitCode::SUCCESS
        }
        Command::Get(args) => match runtime.block_on(get::get(&args, &mut std::io::stdout(), &mut std::io::stderr())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&format!("{error:#}")),
        },
        Command::Export(args) => match export::run(args, &mut std::io::stdout(), &mut std::io::stderr()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&format!("{error:#}")),
        },
        Command::Token(args) => {
            match runtime.block_on(token::run(args.command, &mut std::io::stdout(), &mut std::io::stderr())) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&format!("{error:#}")),
            }
        }
        Command::Inject(args) => match offline::file(&args.filename, &args.sidecar.settings()) {
            Ok(manifests) => {
                print!("{manifests}");
                ExitCode::SUCCESS
            }
            Err(refusal) => failed(&format!("{}: {refusal}", args.filename.display())),
        },
        Command::Check(args) => match runtime.block_on(check::check(&args, &mut std::io::stdout())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&format!("{error:#}")),
        },
        Command::Webhook(args) => {
            log(args.log_format);
            ended(runtime.block_on(webhook::run(*args)))
        }
        Command::Run(args) => {
            let hostname =
                std::env::var("HOSTNAME").unwrap_or_else(|_| format!("weir-operator-{}", std::process::id()));
            let settings = match args.settings(&hostname) {
                Ok(settings) => settings,
                Err(refusal) => return failed(&refusal.to_string()),
            };
            log(settings.log_format);
            ended(runtime.block_on(run::run(settings)))
        }
    }
}

fn ended(result: Result<(), run::RunError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn failed(message: &str) -> ExitCode {
    eprintln!("weir-operator: {message}");
    ExitCode::FAILURE
}

/// Without RUST_LOG. At `warn` kube shows the whole of an answer that it cannot parse, and that may be a Secret.
const QUIET: &str = "info,kube_client=error";

fn log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| QUIET.into());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
