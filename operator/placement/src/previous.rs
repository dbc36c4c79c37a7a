//! Who held a stream before a failover is remembered until it is proven clear of it.

use weir_feed::record::{Change, Record};

use crate::claim::{Claim, Claims, Standing};
use crate::draft::Draft;
use crate::plan::Note;
use crate::reason;

/// Forgets previous holders that have reported and do not run the stream.
pub(crate) fn clear<'a>(draft: &mut Draft<'a>, claims: &Claims<'a>) {
    for claim in claims.values() {
        let Standing::Active(record) = claim.standing() else {
            continue;
        };
        let Some(previous) = &record.previous else {
            continue;
        };
        if !draft.changed(claim.name) && !claim.known.may_run.contains_key(previous) {
            let why = format!("{previous} is proven clear of it");
            draft.change(claim.name, Some(record), Change::Clear, false, why);
        }
    }
}

/// That the previous holder may be running the stream too, as far as that is known.
pub(crate) fn note(claim: &Claim<'_>, record: &Record) -> Option<Note> {
    let previous = record.previous.as_ref()?;
    claim.known.may_run.get(previous).map(|lost| {
        let message = if lost.is_some() {
            format!(
                "{previous}, which had it before and is silent, may still be running it until it is back and has polled; \
                 nothing else waits for that"
            )
        } else {
            format!("{previous}, which had it before, may still be running it until its next poll")
        };
        Note::new(reason::MAY_STILL_RUN, message).about(previous)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Scene;

    fn scene() -> Scene {
        Scene::new(&["s1", "s2"])
            .with_active("m", "s2")
            .with(|s| s.known("m").record.as_mut().unwrap().previous = Some("s1".into()))
    }

    #[test]
    fn a_previous_holder_that_does_not_run_it_is_forgotten_without_hurry() {
        let plan = scene().plan();
        assert_eq!(plan.change("m"), Some(&Change::Clear));
        assert!(!plan.urgent("m"));
    }

    #[test]
    fn a_previous_holder_that_may_run_it_is_remembered() {
        for lost in [None, Some(60_000)] {
            let scene = scene().with(|s| {
                s.known("m").may_run.insert("s1".into(), lost);
            });
            let plan = scene.plan();
            assert_eq!(plan.changes, []);
            assert_eq!(plan.note("m").reason, reason::MAY_STILL_RUN);
        }
    }
}
