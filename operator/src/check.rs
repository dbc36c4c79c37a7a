//! `weir-operator check`: is an installation well, seen from where a sidecar would be? What `helm test` runs.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::{Certificate, Method, StatusCode};
use url::Url;

use crate::cli::CheckArgs;

/// For an answer, and for each address.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks every address behind every URL, and says what each answers. It is an error if one of them is not well.
pub async fn check(args: &CheckArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let roots = match &args.ca_file {
        Some(file) => {
            let pem = std::fs::read(file).with_context(|| format!("reading --ca-file {}", file.display()))?;
            let none = || format!("--ca-file {} holds no certificates", file.display());
            let roots = Certificate::from_pem_bundle(&pem).with_context(none)?;
            ensure!(!roots.is_empty(), none());
            roots
        }
        None => Vec::new(),
    };
    let mut unwell = 0;
    for (url, question) in args.ready.iter().map(|url| (url, &READY)).chain(args.feed.iter().map(|url| (url, &FEED))) {
        for address in addresses(url).await? {
            match ask(url, address, &roots, question).await {
                Ok(said) => writeln!(out, "{url} at {address}: {said}")?,
                Err(error) => {
                    unwell += 1;
                    writeln!(out, "{url} at {address}: {error:#}")?;
                }
            }
        }
    }
    ensure!(unwell == 0, "{unwell} of these addresses are not well");
    Ok(())
}

/// What is asked of an address, and what is a good answer.
struct Question {
    method: Method,
    path: &'static str,
    well: StatusCode,
    /// Instead of the answer, where it is good.
    said: Option<&'static str>,
}

const READY: Question = Question { method: Method::GET, path: "/readyz", well: StatusCode::OK, said: None };

/// Nobody who has no token is let in; that it says so over TLS is enough.
const FEED: Question = Question {
    method: Method::POST,
    path: "/feed/v1",
    well: StatusCode::UNAUTHORIZED,
    said: Some("its certificate is good, and it asks for a token"),
};

async fn addresses(url: &Url) -> anyhow::Result<Vec<SocketAddr>> {
    let host = url.host_str().with_context(|| format!("{url} names no host"))?.trim_matches(['[', ']']);
    let port = url.port_or_known_default().with_context(|| format!("{url} names no port"))?;
    let found = tokio::net::lookup_host((host, port)).await.with_context(|| format!("looking {host} up"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_unstable();
    found.dedup();
    ensure!(!found.is_empty(), "{host} has no address");
    Ok(found)
}

async fn ask(url: &Url, address: SocketAddr, roots: &[Certificate], question: &Question) -> anyhow::Result<String> {
    let host = url.host_str().unwrap_or_default();
    // Not the system's certificates: an image from scratch has none.
    let client = reqwest::Client::builder().tls_certs_only(roots.iter().cloned()).no_proxy().timeout(PATIENCE);
    let client = client.resolve_to_addrs(host, &[address]).build()?;
    let request = client.request(question.method.clone(), url.join(question.path)?);
    let answer = request.send().await.map_err(|error| anyhow::Error::from(error.without_url()))?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    let text = text.trim().replace('\n', "; ");
    if status != question.well {
        bail!("it answers {status}: {text}");
    }
    Ok(question.said.map_or(text, str::to_owned))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};
    use tokio::net::TcpListener;

    use super::*;

    async fn server(router: Router) -> anyhow::Result<Url> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?).parse()?;
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(url)
    }

    async fn checked(ready: Vec<Url>, feed: Vec<Url>) -> (String, Option<String>) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut out = Vec::new();
        let ended = check(&CheckArgs { ready, feed, ca_file: None }, &mut out).await;
        (String::from_utf8_lossy(&out).into_owned(), ended.err().map(|error| error.to_string()))
    }

    #[tokio::test]
    async fn an_installation_that_is_well_says_so() -> anyhow::Result<()> {
        let ready = server(Router::new().route("/readyz", get(|| async { "ok\nnote: stands by\n" }))).await?;
        let feed = server(Router::new().route("/feed/v1", post(|| async { StatusCode::UNAUTHORIZED }))).await?;
        let (out, error) = checked(vec![ready], vec![feed]).await;
        assert_eq!(error, None);
        assert!(out.contains("ok; note: stands by") && out.contains("it asks for a token"), "{out}");
        Ok(())
    }

    #[tokio::test]
    async fn each_that_is_not_well_is_named_with_its_own_words() -> anyhow::Result<()> {
        let waits = || async { (StatusCode::SERVICE_UNAVAILABLE, "the Lease has not been seen yet") };
        let waiting = server(Router::new().route("/readyz", get(waits))).await?;
        // Who lets anybody in is no feed of Weir's.
        let open = server(Router::new().route("/feed/v1", post(|| async { "welcome" }))).await?;
        let (out, error) = checked(vec![waiting.clone(), Url::parse("http://127.0.0.1:1")?], vec![open]).await;
        assert_eq!(error.as_deref(), Some("3 of these addresses are not well"));
        let answer = format!("{waiting} at {}: it answers 503 Service Unavailable: the Lease", waiting.authority());
        assert!(out.contains(&answer), "{out}");
        assert!(out.contains("http://127.0.0.1:1/ at 127.0.0.1:1: ") && out.contains("it answers 200 OK"), "{out}");
        Ok(())
    }
}
