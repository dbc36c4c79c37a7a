//! What a replica holds, as one number that both ends can compare.

use sha2::{Digest as _, Sha256};

/// Hash of a document and of what goes with it: 32 hexadecimal digits.
pub fn document_hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..16])
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The slice that holds a stream's record: `0`–`15`, the first digit of its media name's SHA-256.
pub fn slice_of(media_name: &str) -> u8 {
    Sha256::digest(media_name.as_bytes())[0] >> 4
}

/// Digest of a set of entries, whatever their order: the XOR of their hashes, so that one change costs one entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SetDigest([u8; 32]);

impl SetDigest {
    /// Puts an entry in, or takes it out again.
    pub fn toggle(&mut self, parts: &[&str]) {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        for (mine, theirs) in self.0.iter_mut().zip(hash.finalize()) {
            *mine ^= theirs;
        }
    }

    /// 32 hexadecimal digits, as a mark carries it.
    pub fn text(&self) -> String {
        hex(&self.0[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_digest_does_not_depend_on_order_and_forgets_what_is_taken_out() {
        let (mut one, mut other) = (SetDigest::default(), SetDigest::default());
        one.toggle(&["a", "1"]);
        one.toggle(&["b", "2"]);
        other.toggle(&["b", "2"]);
        other.toggle(&["c", "3"]);
        other.toggle(&["a", "1"]);
        assert_ne!(one, other);
        other.toggle(&["c", "3"]);
        assert_eq!(one, other);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(document_hash(&["ab", "c"]), document_hash(&["a", "bc"]));
    }

    #[test]
    fn slices_are_the_first_hexadecimal_digit_of_the_names_hash() {
        // printf %s mylive/bunny | sha256sum
        assert_eq!(format!("{:x}", slice_of("mylive/bunny")), hex(&Sha256::digest("mylive/bunny"))[..1]);
    }
}
