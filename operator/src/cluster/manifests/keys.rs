//! The key ring: `keys.json` in the state directory, readable by the operator alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;
use weir_feed::grant::KeyRing;

use super::file::{self, StateError};

const ADVICE: &str = "restore it from a backup, or, if there is none, move it away: new keys are made, and what sidecars claim under the old ones is shown as Disputed and corrects nothing";

/// The keys by name, in base64, as a Secret has them; `None` where there are none yet.
pub(super) fn encoded(state: &Path) -> Result<Option<BTreeMap<String, String>>, StateError> {
    let encoded = file::read_json(&state.join("keys.json"), ADVICE)?;
    load(state)?;
    Ok(encoded)
}

/// The ring of a state directory; `None` where there is none yet.
pub(super) fn load(state: &Path) -> Result<Option<KeyRing>, StateError> {
    let path = state.join("keys.json");
    let Some(encoded) = file::read_json::<BTreeMap<String, String>>(&path, ADVICE)? else {
        return Ok(None);
    };
    if let Ok(metadata) = fs::metadata(&path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!("{} can be read by others: chmod 600 it", path.display());
    }
    let keys = encoded.into_iter().map(|(name, key)| Some((name, STANDARD.decode(key).ok()?)));
    let ring = keys.collect::<Option<_>>().and_then(KeyRing::new);
    ring.map(Some).ok_or_else(|| file::unusable(&path, "holds no sound keys", ADVICE))
}

/// Makes a ring of one new key; `now` is the wall clock in ms and names it.
pub(super) fn make(state: &Path, now: u64) -> Result<KeyRing, StateError> {
    let path = state.join("keys.json");
    let mut key = vec![0; 32];
    rand::rng().fill_bytes(&mut key);
    // Thirteen digits reach to the year 2286; the greatest name seals.
    let name = format!("k{now:013}");
    let encoded = BTreeMap::from([(&name, STANDARD.encode(&key))]);
    serde_json::to_vec(&encoded).map_err(Into::into).and_then(|text| file::replace(&path, &text)).map_err(|error| {
        file::unusable(&path, &format!("cannot be written ({error})"), "make room, or let the operator's user write it")
    })?;
    KeyRing::new(BTreeMap::from([(name, key)])).ok_or_else(|| file::unusable(&path, "holds no sound keys", ADVICE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_survives_a_restart_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
        let ring = make(dir.path(), 1_700_000_000_000).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some(ring.clone()));
        let mode = fs::metadata(dir.path().join("keys.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(make(other.path(), 1_700_000_000_000).unwrap(), ring, "keys are random");
    }

    #[test]
    fn a_damaged_ring_is_refused_and_never_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{}", "{\"k1\": \"c2hvcnQ=\"}", "{\"k1\": \"!\"}"] {
            fs::write(dir.path().join("keys.json"), text).unwrap();
            let error = load(dir.path()).unwrap_err().0;
            assert!(
                error.contains("keys.json") && error.contains("restore it") && !error.contains("c2hvcnQ"),
                "{error}"
            );
        }
    }
}
