//! Who leads, by the Lease.

use super::*;

/// A candidate and what it is told.
struct Candidate {
    term: watch::Sender<u64>,
    resign: watch::Sender<u64>,
    events: mpsc::Receiver<LeaseEvent>,
}

impl Candidate {
    fn new(operator: &Kubernetes) -> Self {
        let ((term, terms), (resign, resigns)) = (watch::channel(0), watch::channel(0));
        let events = operator.campaign(terms, resigns);
        Self { term, resign, events }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&LeaseEvent) -> bool) -> LeaseEvent {
        patient(what, async {
            loop {
                let event = self.events.recv().await.unwrap();
                if is_it(&event) {
                    return event;
                }
            }
        })
        .await
    }

    /// Until it leads; the answer is the highest term that was in the Lease.
    async fn leads(&mut self) -> u64 {
        match self.until("it leads", |event| matches!(event, LeaseEvent::Held { .. })).await {
            LeaseEvent::Held { highest_term, .. } => highest_term,
            LeaseEvent::Lost { .. } | LeaseEvent::WentBack { .. } => unreachable!(),
        }
    }

    async fn follows(&mut self, leader: &str) {
        let lost = LeaseEvent::Lost { leader: Some(format!("https://{leader}:9443")) };
        self.until("it follows", |event| *event == lost).await;
    }
}

#[tokio::test]
async fn one_leads_and_the_other_takes_over_when_it_resigns_or_ends() {
    let place = Place::new("election").await;
    let (a, b) = (candidate(&place, "a"), candidate(&place, "b"));
    let mut first = Candidate::new(&a);
    assert_eq!(first.leads().await, 0);
    first.term.send_replace(41);
    first
        .until("its term stands in the Lease", |event| matches!(event, LeaseEvent::Held { highest_term: 41, .. }))
        .await;
    let mut second = Candidate::new(&b);
    second.follows("a").await;

    first.resign.send_replace(1);
    first.until("it resigns", |event| matches!(event, LeaseEvent::Lost { .. })).await;
    assert_eq!(second.leads().await, 41, "the term outlives its leader");
    first.follows("b").await;

    drop(second);
    assert_eq!(first.leads().await, 41);
}

#[tokio::test]
async fn a_silent_holder_is_waited_out_and_never_longer_believed_than_that() {
    let place = Place::new("silent").await;
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "weir-operator", "annotations": {"weir.dev/term": "17", "weir.dev/feed": "https://x:9443"}},
        "spec": {"holderIdentity": "x", "leaseDurationSeconds": 2},
    }))
    .unwrap();
    let leases = place.api::<Lease>();
    leases.create(&PostParams::default(), &lease).await.unwrap();
    let started = Instant::now();
    let operator = candidate(&place, "a");
    let mut candidate = Candidate::new(&operator);
    candidate.follows("x").await;
    assert_eq!(candidate.leads().await, 17);
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    let held = leases.get("weir-operator").await.unwrap().spec.unwrap();
    assert!(held.holder_identity.unwrap().starts_with("a_"));
    assert_eq!(held.lease_duration_seconds, Some(7), "6.5 s, rounded up for others");
}

#[tokio::test]
async fn a_lease_that_is_taken_or_deleted_by_hand_is_not_fought_for() {
    let place = Place::new("hand").await;
    let operator = candidate(&place, "a");
    let mut candidate = Candidate::new(&operator);
    candidate.leads().await;
    let leases = place.api::<Lease>();
    let uid = async || leases.get_opt("weir-operator").await.unwrap()?.metadata.uid;
    let old = uid().await;
    leases.delete("weir-operator", &DeleteParams::default()).await.unwrap();
    patient("the Lease is posted again", async {
        while matches!(uid().await, now if now.is_none() || now == old) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    candidate.leads().await;

    let theirs = json!({
        "metadata": {"annotations": {"weir.dev/feed": "https://x:9443", "weir.dev/term": "99"}},
        "spec": {"holderIdentity": "x"},
    });
    let patch = Patch::Merge(theirs);
    leases.patch("weir-operator", &PatchParams::default(), &patch).await.unwrap();
    candidate.follows("x").await;
}
