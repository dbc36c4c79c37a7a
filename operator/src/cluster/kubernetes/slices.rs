//! Placements: read from a quorum, written by compare-and-swap on version and term.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use weir_crds::placement::{Placement, PlacementSpec, PlacementStatus};
use weir_feed::leader::step::{Outcome, Slice, SliceId};
use weir_feed::record::Record;
use weir_feed::rule::{Rule, lacks};

use super::lean::{Lean, version_of};
use super::observe::{Told, watched};
use super::request::{Failure, bounded};
use super::{Kubernetes, MANAGER, Scope, Shared};
use crate::cluster::{CONFIRM_REMOVAL, SliceSeen, Trouble};

/// How many slices a page has: each may be 512 KiB.
const PAGE: u32 = 16;

/// The slice that a Placement is; `None` where its name is not one of ours.
fn slice_id(metadata: &ObjectMeta) -> Option<SliceId> {
    let digit = metadata.name.as_deref()?.strip_prefix("placement-")?;
    let is_ours = digit.len() == 1 && !digit.contains(|c: char| c.is_ascii_uppercase());
    let index = u8::from_str_radix(digit, 16).ok().filter(|_| is_ours)?;
    let namespace = metadata.namespace.clone()?;
    Some(SliceId { namespace, index })
}

/// A Placement as the leader takes it.
fn slice(id: SliceId, placement: Placement) -> Result<Slice, Trouble> {
    let version =
        version_of(&placement.metadata).ok_or_else(|| Trouble(format!("{id}: its resourceVersion is not a number")))?;
    let until = placement.spec.removal.map(|removal| removal.until.0);
    let annotations = placement.metadata.annotations.unwrap_or_default();
    Ok(Slice {
        id,
        version,
        term: placement.spec.term,
        records: placement.spec.records,
        removal_until: until.map(|until| u64::try_from(until.as_millisecond()).unwrap_or_default()),
        removal_confirmed: annotations.get(CONFIRM_REMOVAL).is_some_and(|value| value == "true"),
    })
}

fn read(id: SliceId, lean: &Lean<Placement>) -> Result<Slice, Trouble> {
    let placement =
        lean.read().map_err(|why| Trouble(format!("{id} cannot be read, and nothing is decided without it: {why}")))?;
    slice(id, placement)
}

/// **Compare-and-swap**: what a patch begins with, on the version that was read and the leader's term. A restored storage
/// may have the same version again.
fn tests(version: u64, term: u64) -> Vec<Value> {
    let test = |path: &str, value: Value| json!({"op": "test", "path": path, "value": value});
    let version = (!lacks(Rule::CompareAndSwapVersion))
        .then(|| test("/metadata/resourceVersion", Value::String(version.to_string())));
    let term = (!lacks(Rule::CompareAndSwapTerm)).then(|| test("/spec/term", term.into()));
    version.into_iter().chain(term).collect()
}

/// The patch that writes `term` over `old_term`.
fn taking(version: u64, old_term: u64, term: u64) -> Value {
    let mut patch = tests(version, old_term);
    patch.push(json!({"op": "replace", "path": "/spec/term", "value": term}));
    Value::Array(patch)
}

/// The patch that replaces the records.
fn writing(version: u64, term: u64, records: &[Record], until: Option<u64>) -> Value {
    let removal = until.and_then(|until| {
        let until = Timestamp::from_millisecond(i64::try_from(until).ok()?).ok()?;
        Some(json!({"until": until.to_string()}))
    });
    let mut patch = tests(version, term);
    patch.extend([
        json!({"op": "add", "path": "/spec/records", "value": records}),
        json!({"op": "add", "path": "/status", "value": PlacementStatus::of(records)}),
        json!({"op": "add", "path": "/spec/removal", "value": removal}),
    ]);
    if removal.is_none() {
        // Only what is there can be removed; the line above has put something there.
        patch.push(json!({"op": "remove", "path": "/spec/removal"}));
    }
    Value::Array(patch)
}

/// The patch that takes the confirmation of a removal off. It tests no version: whatever else is written meanwhile, the
/// annotation is used up.
fn unconfirming() -> Value {
    let path = format!("/metadata/annotations/{}", CONFIRM_REMOVAL.replace('/', "~1"));
    json!([{"op": "test", "path": path, "value": "true"}, {"op": "remove", "path": path}])
}

/// How a write ended that was answered like this.
fn outcome(answer: Result<ObjectMeta, Failure>) -> Outcome {
    match answer.map(|metadata| version_of(&metadata)) {
        Ok(Some(version)) => Outcome::Done { version },
        Ok(None) => Outcome::Unknown { message: "the API server's answer has no resourceVersion".into() },
        Err(failure) => failure.outcome(),
    }
}

impl Kubernetes {
    pub(super) async fn list(&self) -> Result<(Vec<Slice>, u64), Trouble> {
        let (mut slices, mut version) = (vec![], 0);
        for scope in self.scopes() {
            let (more, at) = self.list_scope(&scope).await?;
            slices.extend(more);
            version = version.max(at);
        }
        self.removals.listed(&slices);
        Ok((slices, version))
    }

    /// Without a resourceVersion, which makes it a quorum read; all pages are of one version.
    async fn list_scope(&self, scope: &Scope) -> Result<(Vec<Slice>, u64), Trouble> {
        let api = scope.api::<Lean<Placement>>(&self.client);
        let mut parameters = ListParams::default().limit(PAGE);
        let mut slices = vec![];
        loop {
            let page = bounded(self.limit, api.list(&parameters)).await;
            let page = page.map_err(|failure| Trouble(format!("Placements{scope} cannot be listed: {failure}")))?;
            for lean in &page.items {
                if let Some(id) = slice_id(kube::Resource::meta(lean)) {
                    slices.push(read(id, lean)?);
                }
            }
            let next = page.metadata.continue_.filter(|token| !token.is_empty());
            let Some(next) = next else {
                let version = page.metadata.resource_version.as_deref();
                let version = version.and_then(|version| version.parse().ok());
                let trouble = "the list of Placements has no resourceVersion that is a number";
                return Ok((slices, version.ok_or_else(|| Trouble(trouble.into()))?));
            };
            parameters = parameters.continue_token(&next);
        }
    }

    pub(super) async fn read(&self, id: &SliceId) -> Result<Option<Slice>, Trouble> {
        let api = Api::<Lean<Placement>>::namespaced(self.client.clone(), &id.namespace);
        match bounded(self.limit, api.get(&id.object())).await {
            Ok(lean) => {
                let slice = read(id.clone(), &lean)?;
                self.removals.read(id, Some(&slice));
                Ok(Some(slice))
            }
            Err(failure) if failure.is_absent() => {
                self.removals.read(id, None);
                Ok(None)
            }
            Err(failure) => Err(Trouble(format!("{id} cannot be read: {failure}"))),
        }
    }

    pub(super) async fn create(&self, id: &SliceId, term: u64) -> Outcome {
        let spec = PlacementSpec { term, ..PlacementSpec::default() };
        let mut placement = Placement::new(&id.object(), spec);
        placement.status = Some(PlacementStatus::default());
        let api = Api::<Placement>::namespaced(self.client.clone(), &id.namespace);
        let parameters = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let answer = bounded(self.limit, api.create(&parameters, &placement)).await;
        outcome(answer.map(|placement| placement.metadata))
    }

    pub(super) async fn take(&self, id: &SliceId, version: u64, old: u64, term: u64) -> Outcome {
        self.patch(id, taking(version, old, term)).await
    }

    pub(super) async fn write(
        &self,
        id: &SliceId,
        version: u64,
        term: u64,
        records: &[Record],
        until: Option<u64>,
    ) -> Outcome {
        let outcome = self.patch(id, writing(version, term, records, until)).await;
        if let Outcome::Done { .. } = outcome {
            for confirmed in self.removals.written(id, until.is_some()) {
                self.take_off_confirmation(&confirmed).await;
            }
        }
        outcome
    }

    /// Takes the used-up confirmation off, as a person would: the watch tells the leader, who knows the slice with it.
    async fn take_off_confirmation(&self, id: &SliceId) {
        match self.patch(id, unconfirming()).await {
            // Refused: it is not there any more.
            Outcome::Done { .. } | Outcome::Refused { .. } => self.removals.taken_off(id),
            Outcome::Unknown { message } => {
                tracing::warn!("the annotation {CONFIRM_REMOVAL} of {id} is used up and stays for now: {message}");
            }
        }
    }

    async fn patch(&self, id: &SliceId, patch: Value) -> Outcome {
        let patch = match serde_json::from_value(patch) {
            Ok(patch) => Patch::Json::<()>(patch),
            Err(error) => {
                let message = format!("{id}: the patch cannot be made: {error}");
                return Outcome::Refused { message };
            }
        };
        // The answer is metadata alone: the records need not travel back.
        let api = Api::<PartialObjectMeta<Placement>>::namespaced(self.client.clone(), &id.namespace);
        let (object, parameters) = (id.object(), PatchParams::apply(MANAGER));
        let answer = bounded(self.limit, api.patch(&object, &parameters, &patch)).await;
        outcome(answer.map(|placement| placement.metadata))
    }

    /// Starts watching Placements in every scope.
    pub(super) fn start_watching_slices(&self) -> mpsc::Receiver<SliceSeen> {
        let (sender, receiver) = mpsc::channel(256);
        for (index, scope) in self.scopes().into_iter().enumerate() {
            let told = watched(scope.api::<Head>(&self.client), watcher::Config::default()).told;
            let watching = follow(index, scope, told, self.shared.clone(), sender.clone());
            self.spawn(watching);
        }
        receiver
    }
}

/// A Placement without its records.
#[derive(Debug, Clone, serde::Deserialize)]
struct Head {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: HeadSpec,
}

#[derive(Debug, Clone, Default, serde::Deserialize)]
struct HeadSpec {
    #[serde(default)]
    term: Value,
}

impl kube::Resource for Head {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> std::borrow::Cow<'_, str> {
        Placement::kind(&())
    }

    fn group((): &()) -> std::borrow::Cow<'_, str> {
        Placement::group(&())
    }

    fn version((): &()) -> std::borrow::Cow<'_, str> {
        Placement::version(&())
    }

    fn plural((): &()) -> std::borrow::Cow<'_, str> {
        Placement::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// The slices of one scope that are there, to tell those that went while nobody watched.
#[derive(Debug, Default)]
struct Present {
    known: BTreeSet<SliceId>,
    arriving: BTreeSet<SliceId>,
}

impl Present {
    /// What an event says of slices.
    fn take(&mut self, event: &Event<Head>) -> Vec<SliceSeen> {
        let gone = |id: SliceId| SliceSeen { id, version: None, term: None };
        match event {
            Event::Init => {
                self.arriving.clear();
                vec![]
            }
            Event::InitApply(head) => {
                self.arriving.extend(slice_id(&head.metadata));
                seen(head).into_iter().collect()
            }
            Event::InitDone => {
                let arrived = std::mem::take(&mut self.arriving);
                let before = std::mem::replace(&mut self.known, arrived);
                before.difference(&self.known).cloned().map(gone).collect()
            }
            Event::Apply(head) => {
                self.known.extend(slice_id(&head.metadata));
                seen(head).into_iter().collect()
            }
            Event::Delete(head) => {
                let id = slice_id(&head.metadata);
                let id = id.inspect(|id| {
                    self.known.remove(id);
                });
                id.map(gone).into_iter().collect()
            }
        }
    }
}

fn seen(head: &Head) -> Option<SliceSeen> {
    Some(SliceSeen {
        id: slice_id(&head.metadata)?,
        version: Some(version_of(&head.metadata)?),
        term: head.spec.term.as_u64(),
    })
}

async fn follow(
    index: usize,
    scope: Scope,
    mut told: mpsc::Receiver<Told<Head>>,
    shared: std::sync::Arc<Shared>,
    sender: mpsc::Sender<SliceSeen>,
) {
    let mut present = Present::default();
    while let Some(told) = told.recv().await {
        let (problem, seen) = match told {
            Told::Event(Event::InitDone) => (Some(None), present.take(&Event::InitDone)),
            Told::Event(event) => (None, present.take(&event)),
            Told::Failed { why, .. } => {
                let problem = format!("Placements{scope} cannot be watched: {why}");
                (Some(Some(problem)), vec![])
            }
        };
        if let Some(problem) = problem {
            shared.set_slices_problem(index, problem);
        }
        for slice in seen {
            if sender.send(slice).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_feed::frames::Partition;
    use weir_feed::record::Phase;

    fn head(name: &str, version: &str, term: &Value) -> Head {
        let metadata = json!({"namespace": "media", "name": name, "resourceVersion": version});
        let records = json!([{"name": "bunny"}]);
        let head = json!({"metadata": metadata, "spec": {"term": term, "records": records}});
        serde_json::from_value(head).unwrap()
    }

    fn metadata(name: &str) -> ObjectMeta {
        head(name, "1", &json!(1)).metadata
    }

    fn record(name: &str, phase: Phase) -> Record {
        Record {
            name: name.into(),
            stream: name.into(),
            uid: "u1".into(),
            streamer: "s1".into(),
            epoch: 7,
            phase,
            to: None,
            previous: None,
            partition: Partition::KeepCapturing,
        }
    }

    #[test]
    fn sixteen_names_are_slices_and_no_others() {
        for index in 0..16 {
            let id = SliceId { namespace: "media".into(), index };
            assert_eq!(slice_id(&metadata(&id.object())), Some(id));
        }
        for name in ["placement", "placement-", "placement-10", "placement-g", "placement-A", "placement-+", "x"] {
            assert_eq!(slice_id(&metadata(name)), None, "{name}");
        }
    }

    /// RFC 6902 as far as the patches here use it, so that they are seen at work.
    fn apply(document: &mut Value, patch: &Value) -> Result<(), String> {
        for operation in patch.as_array().unwrap() {
            let pointer = operation["path"].as_str().unwrap();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let key = key.replace("~1", "/");
            let parent = document.pointer_mut(parent).ok_or("no parent")?;
            let parent = parent.as_object_mut().unwrap();
            match operation["op"].as_str().unwrap() {
                "test" if parent.get(&key) == Some(&operation["value"]) => {}
                "replace" if parent.contains_key(&key) => {
                    parent.insert(key, operation["value"].clone());
                }
                "add" => {
                    parent.insert(key, operation["value"].clone());
                }
                "remove" => {
                    parent.remove(&key).ok_or("nothing to remove")?;
                }
                other => return Err(format!("{other} {pointer}")),
            }
        }
        Ok(())
    }

    fn stored() -> Value {
        json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Placement",
            "metadata": {"namespace": "media", "name": "placement-7", "resourceVersion": "41"},
            "spec": {"term": 5, "records": []},
        })
    }

    fn read_back(document: &Value) -> Slice {
        let lean: Lean<Placement> = serde_json::from_value(document.clone()).unwrap();
        read(slice_id(&metadata("placement-7")).unwrap(), &lean).unwrap()
    }

    #[test]
    fn compare_and_swap_takes_a_slice_only_at_its_version_and_term() {
        let mut document = stored();
        apply(&mut document, &taking(41, 5, 6)).unwrap();
        assert_eq!(read_back(&document).term, 6);
        apply(&mut document, &taking(41, 5, 7)).unwrap_err();
        apply(&mut document, &taking(40, 6, 7)).unwrap_err();
    }

    #[test]
    fn compare_and_swap_replaces_records_only_at_their_version_and_term() {
        let mut document = stored();
        let records = [record("a", Phase::Active)];
        apply(&mut document, &writing(42, 5, &records, None)).unwrap_err();
        apply(&mut document, &writing(41, 4, &records, None)).unwrap_err();
        assert_eq!(document, stored());
        apply(&mut document, &writing(41, 5, &records, None)).unwrap();
        assert_eq!(read_back(&document).records, records);
    }

    #[cfg(debug_assertions)]
    #[test]
    fn every_rule_here_has_tests_that_fail_without_it() {
        let tests = weir_feed::rule_tests![
            compare_and_swap_takes_a_slice_only_at_its_version_and_term,
            compare_and_swap_replaces_records_only_at_their_version_and_term,
        ];
        for rule in [Rule::CompareAndSwapVersion, Rule::CompareAndSwapTerm] {
            weir_feed::rule::prove(rule, &[], tests);
        }
    }

    #[test]
    fn records_are_replaced_whole_and_counted() {
        let mut document = stored();
        let records = [record("a", Phase::Active), record("b", Phase::Releasing)];
        let until = Some(1_795_000_000_123);
        apply(&mut document, &writing(41, 5, &records, until)).unwrap();
        assert_eq!(document["status"], json!({"streams": 2, "releasing": 1}));
        let slice = read_back(&document);
        assert_eq!(slice.records, records);
        assert_eq!(slice.removal_until, until);
        apply(&mut document, &writing(41, 5, &records[..1], None)).unwrap();
        let slice = read_back(&document);
        assert_eq!((slice.records.len(), slice.removal_until), (1, None));
        assert_eq!(document["spec"].get("removal"), None);
    }

    #[test]
    fn a_removal_is_confirmed_by_an_annotation() {
        let mut document = stored();
        assert!(!read_back(&document).removal_confirmed);
        document["metadata"]["annotations"] = json!({CONFIRM_REMOVAL: "true"});
        assert!(read_back(&document).removal_confirmed);
        apply(&mut document, &unconfirming()).unwrap();
        assert!(!read_back(&document).removal_confirmed);
        apply(&mut document, &unconfirming()).unwrap_err();
    }

    #[test]
    fn a_slice_that_cannot_be_read_is_trouble_with_its_name() {
        let mut document = stored();
        document["spec"]["records"] = json!([{"name": "bunny"}]);
        let lean: Lean<Placement> = serde_json::from_value(document).unwrap();
        let id = slice_id(&metadata("placement-7")).unwrap();
        let trouble = read(id, &lean).unwrap_err();
        assert!(trouble.0.contains("media/placement-7"), "{trouble}");
    }

    #[test]
    fn a_slice_that_went_while_nobody_watched_is_told() {
        let mut present = Present::default();
        let versions = |seen: Vec<SliceSeen>| -> Vec<_> {
            seen.into_iter().map(|seen| (seen.id.index, seen.version, seen.term)).collect()
        };
        let seven = Event::InitApply(head("placement-7", "3", &json!(9)));
        assert_eq!(versions(present.take(&seven)), [(7, Some(3), Some(9))]);
        present.take(&Event::InitDone);
        let eight = Event::Apply(head("placement-8", "4", &json!("x")));
        assert_eq!(versions(present.take(&eight)), [(8, Some(4), None)]);
        assert_eq!(versions(present.take(&Event::Apply(head("other", "4", &json!(1))))), []);
        present.take(&Event::Init);
        present.take(&seven);
        assert_eq!(versions(present.take(&Event::InitDone)), [(8, None, None)]);
        let gone = Event::Delete(head("placement-7", "5", &json!(9)));
        assert_eq!(versions(present.take(&gone)), [(7, None, None)]);
    }
}
