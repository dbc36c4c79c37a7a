//! Which Stream object has a media name: the one that the record names, then the oldest, then the least name.

use std::collections::BTreeMap;

use weir_feed::record::Change;

use crate::claim::{Claim, Claims, NOTHING, Standing};
use crate::draft::Draft;
use crate::plan::Outlook;
use crate::world::{Namespace, Stream};

/// Which Stream object has each media name. A name whose owner cannot be told is left out.
pub fn owners(namespace: &Namespace) -> BTreeMap<&str, &Stream> {
    let named = rivals(namespace).into_iter();
    named.filter_map(|(name, rivals)| Some((name, winner(namespace, &rivals, owner(namespace, name))?))).collect()
}

/// Gives each media name to one object; the others hear who has it.
pub(crate) fn resolve<'a>(draft: &mut Draft<'a>) -> Claims<'a> {
    let namespace = draft.namespace;
    let mut claims = Claims::new();
    for (name, rivals) in rivals(namespace) {
        let known = namespace.known.get(name).unwrap_or(&NOTHING);
        let owner = owner(namespace, name);
        let winner = winner(namespace, &rivals, owner);
        let with = winner.map_or(owner, |winner| Some(winner.object.as_str()));
        for loser in rivals.iter().filter(|rival| Some(**rival) != winner) {
            let with = with.unwrap_or_default().to_owned();
            draft.tell(&loser.object, Outlook::Conflict { with });
        }
        if let Some(stream) = winner {
            let claim = Claim { name, stream, known };
            claims.insert(name, claim);
        }
    }
    claims
}

fn rivals(namespace: &Namespace) -> BTreeMap<&str, Vec<&Stream>> {
    let mut rivals: BTreeMap<&str, Vec<&Stream>> = BTreeMap::new();
    for stream in &namespace.streams {
        rivals.entry(&stream.name).or_default().push(stream);
    }
    rivals
}

/// The object that the record names.
fn owner<'a>(namespace: &'a Namespace, name: &str) -> Option<&'a str> {
    namespace.known.get(name)?.record.as_ref().map(|record| record.stream.as_str())
}

/// `None` where the object that the record names cannot be seen, but may well exist: then it still has the name.
fn winner<'a>(namespace: &Namespace, rivals: &[&'a Stream], owner: Option<&str>) -> Option<&'a Stream> {
    let best = rivals.iter().copied().min_by_key(|stream| {
        let other = Some(stream.object.as_str()) != owner;
        (other, stream.created, &stream.object, &stream.uid)
    })?;
    let hidden = owner.is_some_and(|owner| {
        owner != best.object && (namespace.unreadable.contains(owner) || namespace.removal.unknown)
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
            format!("Stream {object} takes it over from Stream {}", record.stream)
        };
        let change = Change::Rename { stream: object.clone(), uid: uid.clone() };
        draft.change(claim.name, Some(record), change, false, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Scene, record, stream};

    fn conflict(with: &str) -> Outlook {
        Outlook::Conflict { with: with.into() }
    }

    fn rival(object: &str, created: u64) -> Stream {
        Stream { object: object.into(), uid: format!("{object}-uid"), created, ..stream("m") }
    }

    fn rivals(rivals: [Stream; 2]) -> Scene {
        Scene::new(&["s1"]).with(|s| s.namespace().streams.extend(rivals))
    }

    #[test]
    fn of_two_new_streams_with_one_media_name_the_oldest_wins() {
        let plan = rivals([rival("young", 9), rival("old", 3)]).plan();
        assert_eq!(plan.outlook("young"), &conflict("old"));
        assert_eq!(plan.changes.len(), 1);
        assert!(matches!(plan.change("m"), Some(Change::Place { stream, .. }) if stream == "old"));
    }

    #[test]
    fn of_two_equally_old_streams_the_least_name_wins() {
        let plan = rivals([rival("b", 3), rival("a", 3)]).plan();
        assert_eq!(plan.outlook("b"), &conflict("a"));
    }

    #[test]
    fn the_object_that_the_record_names_wins_over_an_older_one() {
        let mut scene = rivals([rival("young", 9), rival("old", 3)]);
        scene.known("m").record = Some(record("m", "s1"));
        let record = scene.known("m").record.as_mut().unwrap();
        (record.stream, record.uid) = ("young".into(), "young-uid".into());
        let plan = scene.plan();
        assert_eq!(plan.outlook("old"), &conflict("young"));
        assert_eq!(plan.change("m"), None);
    }

    #[test]
    fn a_stream_made_again_takes_its_record_over_and_waits_for_nothing() {
        let mut scene = Scene::new(&["s1"]).with_active("m", "s1");
        scene.object("m").uid = "again".into();
        let rename = Change::Rename { stream: "m".into(), uid: "again".into() };
        assert_eq!(scene.plan().change("m"), Some(&rename));
        assert!(!scene.plan().urgent("m"));
    }

    #[test]
    fn the_next_in_line_takes_over_when_the_winner_is_deleted() {
        let mut scene = rivals([rival("next", 9), rival("last", 10)]);
        scene.known("m").record = Some(record("m", "s1"));
        let plan = scene.plan();
        assert!(matches!(plan.change("m"), Some(Change::Rename { stream, .. }) if stream == "next"));
        assert_eq!(plan.outlook("last"), &conflict("next"));
    }

    #[test]
    fn an_unreadable_object_that_the_record_names_keeps_the_name() {
        let mut scene = rivals([rival("a", 1), rival("b", 2)]);
        scene.known("m").record = Some(record("m", "s1"));
        scene.namespace().unreadable.insert("m".into());
        let plan = scene.plan();
        assert_eq!(plan.changes, []);
        assert_eq!(plan.outlook("a"), &conflict("m"));
    }

    #[test]
    fn nobody_takes_over_while_the_list_of_streams_is_not_known() {
        let mut scene = rivals([rival("a", 1), rival("b", 2)]);
        scene.known("m").record = Some(record("m", "s1"));
        scene.namespace().removal.unknown = true;
        assert_eq!(scene.plan().changes, []);
    }
}
