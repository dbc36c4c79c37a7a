//! Tokens that an API server would take but for what is changed in them: signed with its own key.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::Value;

/// `token` (a JWT) with other claims, signed with `key` (PEM) as it was before.
pub(super) fn sign_again(token: &str, key: &str, change: impl FnOnce(&mut Value)) -> Result<String> {
    let (head, rest) = token.split_once('.').context("this is no JWT")?;
    let decode = |part: &str| -> Result<Value> { Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?) };
    let algorithm = decode(head)?["alg"].clone();
    ensure!(algorithm == "ES256", "tokens are signed by {algorithm} now: mend this");
    let mut claims = decode(rest.split('.').next().unwrap_or_default())?;
    change(&mut claims);
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let random = SystemRandom::new();
    let key = KeyPair::from_pem(key)?.serialize_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random)
        .map_err(|why| anyhow::anyhow!("the key of service accounts cannot be used: {why}"))?;
    let signature = key.sign(&random, signed.as_bytes()).map_err(|_| anyhow::anyhow!("it cannot be signed"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
