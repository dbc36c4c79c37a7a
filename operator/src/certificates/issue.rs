//! Makes what the plan wants, with fresh keys.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::plan::{BACKDATED, Step, next};
use super::stored::{Authority, Key, Leaf, Stored};
use super::{Lifetimes, Purpose, Settings};

/// What was stored, with everything that is due now.
pub fn bring_up_to_date(mut stored: Stored, settings: &Settings, now: u64) -> Result<Stored, rcgen::Error> {
    while let Some(step) = next(&stored, settings, now) {
        match step {
            Step::MakeAuthority { id } => stored.authorities.push(authority(id, settings.lifetimes, now)?),
            Step::Issue { purpose, by } => {
                let Some(signer) = stored.authorities.iter_mut().find(|authority| authority.id == by) else {
                    break;
                };
                let leaf = leaf(purpose, signer, settings, now)?;
                signer.signed_until = signer.signed_until.max(leaf.expires);
                match purpose {
                    Purpose::Feed => stored.feed = Some(leaf),
                    Purpose::Webhook => stored.webhook = Some(leaf),
                }
            }
            Step::DropKey { id } => {
                stored.authorities.iter_mut().filter(|authority| authority.id == id).for_each(|a| a.key = None);
            }
            Step::DropAuthority { id } => stored.authorities.retain(|authority| authority.id != id),
        }
    }
    Ok(stored)
}

fn authority(id: u64, lifetimes: Lifetimes, now: u64) -> Result<Authority, rcgen::Error> {
    let key = KeyPair::generate()?;
    let expires = now + lifetimes.authority();
    // Two of one name would be told apart by their keys alone, were the Secret ever lost.
    let mut params = valid(CertificateParams::default(), &format!("weir-ca-{id}-{now}"), now, expires);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(Authority {
        id,
        certificate: params.self_signed(&key)?.pem(),
        key: Some(Key(key.serialize_pem())),
        made: now,
        expires,
        published: None,
        signed_until: 0,
    })
}

fn leaf(purpose: Purpose, signer: &Authority, settings: &Settings, now: u64) -> Result<Leaf, rcgen::Error> {
    let names = match purpose {
        Purpose::Feed => &settings.feed,
        Purpose::Webhook => &settings.webhook,
    };
    let signing = signer.key.as_ref().map(|key| key.0.as_str()).unwrap_or_default();
    let issuer = Issuer::from_ca_cert_pem(&signer.certificate, KeyPair::from_pem(signing)?)?;
    let expires = signer.expires.min(now + settings.lifetimes.certificate());
    let given: Vec<String> = names.iter().map(str::to_owned).collect();
    let mut params = valid(CertificateParams::new(given)?, &format!("weir-{}", purpose.name()), now, expires);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok(Leaf {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: Key(key.serialize_pem()),
        names: names.clone(),
        authority: signer.id,
        made: now,
        expires,
    })
}

fn valid(mut params: CertificateParams, name: &str, now: u64, expires: u64) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BACKDATED));
    params.not_after = epoch + Duration::from_secs(expires);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
