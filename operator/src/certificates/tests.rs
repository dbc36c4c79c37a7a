use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::plan::{BACKDATED, next};
use super::stored::{Key, Leaf, Stored};
use super::*;

/// Far enough from the beginning of time for what is backdated.
const START: u64 = 1_800_000_000;
const FEED: &str = "weir-feed.weir-system.svc";

fn names(given: &[&str]) -> Names {
    Names::new(&given.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn settings(certificate: u64, authority: u64) -> Settings {
    Settings {
        feed: names(&[FEED, "192.0.2.7", "*.example.com"]),
        webhook: names(&["weir-webhook.weir-system.svc"]),
        webhook_configuration: None,
        lifetimes: Lifetimes::new(certificate, authority).unwrap(),
    }
}

fn made(stored: Stored, settings: &Settings, now: u64) -> Stored {
    let stored = bring_up_to_date(stored, settings, now).unwrap();
    assert_eq!(next(&stored, settings, now), None, "it comes to rest");
    stored
}

/// Whether a client that trusts this bundle takes this certificate, by rustls's own verifier.
fn takes(bundle: &str, leaf: &Leaf, name: &str, now: u64) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let shown = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    verifier.verify_server_cert(&shown, &[], &name, &[], now).map(drop).map_err(|error| error.to_string())
}

#[test]
fn what_is_made_first_is_for_the_names_and_addresses_given() {
    let stored = made(Stored::default(), &settings(9_000, 90_000), START);
    let (bundle, feed) = (stored.bundle(), stored.feed.clone().unwrap());
    for name in [FEED, "192.0.2.7", "media.example.com"] {
        takes(&bundle, &feed, name, START).unwrap();
    }
    takes(&bundle, &feed, "other.svc", START).unwrap_err();
    takes(&bundle, &feed, FEED, START - BACKDATED + 1).unwrap();
    takes(&bundle, &feed, FEED, START + 9_001).unwrap_err();
    takes(&bundle, stored.webhook.as_ref().unwrap(), "weir-webhook.weir-system.svc", START).unwrap();
    let pair = Pair::from_pem(feed.certificate.as_bytes(), feed.key.0.as_bytes()).unwrap();
    assert_eq!(pair.valid().end, i64::try_from(START + 9_000).unwrap());
}

#[test]
fn nothing_is_made_before_its_time_and_no_more_than_is_due() {
    let settings = settings(9_000, 90_000);
    let first = made(Stored::default(), &settings, START).published(START);
    assert_eq!(made(first.clone(), &settings, START + 5_999), first);
    let second = made(first.clone(), &settings, START + 6_000);
    assert_eq!(second.authorities[0].certificate, first.authorities[0].certificate);
    assert_ne!(second.feed, first.feed);
    let mut wished = settings;
    wished.webhook = names(&["webhook.example.com"]);
    let third = made(second.clone(), &wished, START + 6_001);
    assert_eq!((third.feed == second.feed, third.webhook == second.webhook), (true, false), "only the other name's");
}

#[test]
fn an_authority_s_successor_signs_when_everybody_has_it_and_the_old_one_stays_while_it_matters() {
    let settings = settings(9_000, 90_000);
    let stored = made(Stored::default(), &settings, START).published(START);
    let renewed = START + 60_000;
    let stored = made(stored, &settings, renewed);
    assert_eq!(stored.authorities.len(), 2);
    assert_eq!(stored.feed.as_ref().unwrap().authority, 1, "nobody has the second yet");
    // It could not be given out everywhere: the next certificate is the first's as well.
    let stored = made(stored, &settings, renewed + 7_000);
    assert_eq!(stored.feed.as_ref().unwrap().authority, 1);
    let stored = stored.published(renewed + 8_000);
    let stored = made(stored, &settings, renewed + 8_899);
    assert!(stored.authorities[0].key.is_some(), "a tenth of 9,000 is not over");
    let stored = made(stored, &settings, renewed + 8_900);
    assert!(stored.authorities[0].key.is_none(), "it signs no more");
    let stored = made(stored, &settings, renewed + 13_000);
    assert_eq!((stored.feed.as_ref().unwrap().authority, stored.authorities.len()), (2, 2));
    // The last that it signed was made at 7,000.
    assert_eq!(made(stored.clone(), &settings, renewed + 16_000).authorities.len(), 2);
    assert_eq!(made(stored, &settings, renewed + 16_001).authorities.len(), 1);
}

#[test]
fn an_authority_that_ends_is_not_waited_for() {
    let settings = settings(9_000, 90_000);
    let mut stored = made(Stored::default(), &settings, START).published(START);
    // A namespace never takes the bundle: for as long as it can, the old one signs.
    for now in (START..START + 89_000).step_by(1_000) {
        stored = made(stored, &settings, now);
        assert_eq!(stored.feed.as_ref().unwrap().authority, 1);
    }
    let stored = made(stored, &settings, START + 89_400);
    assert_eq!(stored.feed.as_ref().unwrap().authority, 2);
}

#[test]
fn after_a_long_sleep_and_after_a_clock_that_was_wrong_everything_is_valid_again() {
    let settings = settings(9_000, 90_000);
    let stored = made(Stored::default(), &settings, START).published(START);
    for now in [START + 1_000_000, START - 1_000_000] {
        let stored = made(stored.clone(), &settings, now);
        takes(&stored.bundle(), stored.feed.as_ref().unwrap(), FEED, now).unwrap();
    }
}

#[test]
fn no_debug_output_shows_a_key_and_what_is_stored_is_read_again() {
    let stored = made(Stored::default(), &settings(9_000, 90_000), START);
    assert!(!format!("{stored:?}").contains("PRIVATE"));
    let json = serde_json::to_string(&stored).unwrap();
    assert!(json.contains("PRIVATE KEY"));
    assert_eq!(serde_json::from_str::<Stored>(&json).unwrap(), stored);
}

#[test]
fn names_and_lifetimes_that_make_no_sense_are_refused() {
    for name in ["", "a b", "*.", "feed.", "*.*.example.com", "https://feed"] {
        assert!(Names::new(&[name.to_owned()]).is_err(), "{name}");
    }
    assert_eq!(Lifetimes::new(9, 100), Err(BadLifetimes::Certificate));
    assert_eq!(Lifetimes::new(100, 399), Err(BadLifetimes::Authority));
    let default = Lifetimes::default();
    assert_eq!(Lifetimes::new(default.certificate(), default.authority()), Ok(default));
}

#[test]
fn a_pair_that_is_none_is_refused_without_its_key() {
    let stored = made(Stored::default(), &settings(9_000, 90_000), START);
    let (feed, webhook) = (stored.feed.unwrap(), stored.webhook.unwrap());
    let (certificate, Key(key)) = (feed.certificate.as_bytes(), &feed.key);
    let error = Pair::from_pem(certificate, webhook.key.0.as_bytes()).unwrap_err();
    assert!(matches!(error, PairError::Mismatch(_)), "{error}");
    for (certificate, key) in
        [(&b"nothing"[..], key.as_bytes()), (certificate, b"-----BEGIN PRIVATE KEY-----\nhunter2")]
    {
        let error = Pair::from_pem(certificate, key).unwrap_err().to_string();
        assert!(error.contains("cannot be read") && !error.contains("hunter2"), "{error}");
    }
}

/// What happens while time goes by.
#[derive(Debug, Clone, Copy)]
enum Happens {
    /// The leader looks, or nobody does.
    Looks(bool),
    /// It could give the bundle out everywhere, or not.
    GivesOut(bool),
    /// Other names are wished for.
    Renames,
}

fn happens() -> impl Strategy<Value = (u64, Happens)> {
    let what = prop_oneof![
        4 => any::<bool>().prop_map(Happens::Looks),
        4 => any::<bool>().prop_map(Happens::GivesOut),
        1 => Just(Happens::Renames),
    ];
    // In twentieths of a certificate's lifetime: nobody looks for a quarter of it at most.
    (0_u64..=3, what)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Over several authorities: whoever has had the bundle within the overlap takes what is served, the feed's and the webhook's.
    #[test]
    fn a_client_whose_bundle_is_no_older_than_the_overlap_is_never_shown_what_it_refuses(
        script in proptest::collection::vec(happens(), 200)
    ) {
        let mut settings = settings(2_000, 9_000);
        let overlap = settings.lifetimes.overlap();
        let (mut now, mut stored) = (START, made(Stored::default(), &settings, START).published(START));
        // The bundles that clients may have: each until it was replaced.
        let mut bundles = vec![(stored.bundle(), u64::MAX)];
        let (mut looked, mut given) = (now, now);
        let mut authorities = 1;
        for (pause, happens) in script {
            now += pause * 100;
            // Longer than that nobody is away, and no namespace refuses its bundle.
            let look = !matches!(happens, Happens::Looks(false)) || now - looked > 300;
            if let Happens::Renames = happens {
                let other = if settings.feed.iter().count() == 1 { names(&[FEED, "192.0.2.7"]) } else { names(&[FEED]) };
                settings.feed = other;
            }
            if look {
                stored = made(stored, &settings, now);
                looked = now;
            }
            if look && (matches!(happens, Happens::GivesOut(true)) || now - given > 600) {
                if bundles.last().is_some_and(|(last, _)| *last != stored.bundle()) {
                    bundles.last_mut().unwrap().1 = now;
                    bundles.push((stored.bundle(), u64::MAX));
                }
                stored = stored.published(now);
                given = now;
            }
            bundles.retain(|(_, until)| now.saturating_sub(overlap) < *until);
            for (bundle, _) in &bundles {
                for (leaf, name) in [(&stored.feed, FEED), (&stored.webhook, "weir-webhook.weir-system.svc")] {
                    let taken = takes(bundle, leaf.as_ref().unwrap(), name, now);
                    prop_assert!(taken.is_ok(), "{taken:?} {} s after the start", now - START);
                }
            }
            authorities = authorities.max(stored.authorities.last().unwrap().id);
        }
        prop_assert!(authorities >= 3, "{authorities} authorities only: time did not go far enough");
    }
}
