//! Which Stream object has a media name: the one that the record names, then the oldest, then the least name.

use std::collections::BTreeMap;

use weir_feed::record::Change;

use crate::claim::{Claim, Claims, NOTHING, Standing};
use crate::draft::Draft;
use crate::plan::Outlook;
use crate::world::Stream;

/// Gives each media name to one object; the others hear who has it.
pub(crate) fn resolve<'a>(draft: &mut Draft<'a>) -> Claims<'a> {
    let namespace = draft.namespace;
    let mut rivals: BTreeMap<&'a str, Vec<&'a Stream>> = BTreeMap::new();
    for stream in &namespace.streams {
        rivals.entry(&stream.name).or_default().push(stream);
    }
    let mut claims = Claims::new();
    for (name, rivals) in rivals {
        let known = namespace.known.get(name).unwrap_or(&NOTHING);
        let owner = known.record.as_ref().map(|record| record.stream.as_str());
        let winner = winner(draft, &rivals, owner);
        let with = winner.map_or(owner, |winner| Some(winner.object.as_str()));
        for loser in rivals.iter().filter(|rival| Some(**rival) != winner) {
            let with = with.unwrap_or_default().to_owned();
            draft.tell(&loser.object, Outlook::Conflict { with });
        }
        if let Some(stream) = winner {
            let claim = Claim {
                name,
                stream,
                known,
            };
            claims.insert(name, claim);
        }
    }
    claims
}

/// `None` where the object that the record names cannot be seen, but may well exist: then it still has the name.
fn winner<'a>(draft: &Draft<'a>, rivals: &[&'a Stream], owner: Option<&str>) -> Option<&'a Stream> {
    let best = rivals.iter().copied().min_by_key(|stream| {
        let other = Some(stream.object.as_str()) != owner;
        (other, stream.created, &stream.object, &stream.uid)
    })?;
    let hidden = owner.is_some_and(|owner| {
        let unreadable = draft.namespace.unreadable.contains(owner);
        owner != best.object && (unreadable || draft.namespace.removal.unknown)
    });
    (!hidden).then_some(best)
}

/// A Stream that was deleted and made again takes its record over, and so does the next in line of a conflict.
pub(crate) fn take_over<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for claim in claims.values() {
        let (Standing::Active(record) | Standing::Moving(record, _)) = claim.standing() else {
            continue;
        };
        let Stream { object, uid, .. } = claim.stream;
        if draft.changed(claim.name) || (object, uid) == (&record.stream, &record.uid) {
            continue;
        }
        let why = if *object == record.stream {
            format!("Stream {object} was made again and takes its place over")
        } else {
            format!(
                "Stream {object} takes it over from Stream {}",
                record.stream
            )
        };
        let change = Change::Rename {
            stream: object.clone(),
            uid: uid.clone(),
        };
        draft.change(claim.name, Some(record), change, false, why);
    }
}
