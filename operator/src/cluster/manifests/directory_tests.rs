//! A directory and what it declares, without a clock and without a watch: every look is asked for.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use super::super::picture::{Picture, Refreshed};
use super::super::status::Statuses;
use super::*;
use crate::cluster::{Object, ObjectRef, Observed};

struct Site {
    dir: tempfile::TempDir,
    picture: Picture,
}

/// A wall clock that stands still: what is published does not depend on it.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("manifests")).unwrap();
    fs::create_dir(dir.path().join("state")).unwrap();
    let picture = open(dir.path());
    Site { dir, picture }
}

fn open(root: &Path) -> Picture {
    Picture::open(&root.join("manifests"), &root.join("state"), BTreeSet::new()).unwrap()
}

impl Site {
    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("manifests").join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).unwrap();
    }

    /// Reads the directory, files that are being written included.
    fn look(&mut self) -> Observed {
        self.picture.refresh(true, now());
        self.observed()
    }

    fn observed(&mut self) -> Observed {
        self.picture.observed(&Statuses::load(&self.dir.path().join("state")).unwrap())
    }

    /// The operator ends, and another one starts.
    fn restart(&mut self) -> Observed {
        let state = self.dir.path().join("state");
        self.picture.admission.known.store(&state).unwrap();
        self.picture = open(self.dir.path());
        self.look()
    }
}

fn stream(name: &str, url: &str) -> String {
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: Stream\nmetadata: {{namespace: media, name: {name}}}\nspec: {{inputs: [{{url: '{url}'}}]}}\n"
    )
}

fn streams(names: &[&str]) -> String {
    names.iter().map(|name| stream(name, "udp://239.0.0.1:1")).collect()
}

/// The names of the readable Streams; a name with a `!` is one that is set aside.
fn names(observed: &Observed) -> Vec<String> {
    let streams = observed.streams.as_ref().expect("the Streams are known");
    let name = |(object, stream): (&ObjectRef, &Object<_>)| match stream {
        Object::Readable(_) => object.name.clone(),
        Object::Malformed { .. } => format!("{}!", object.name),
    };
    streams.iter().map(name).collect()
}

fn found<'a>(observed: &'a Observed, name: &str) -> &'a Object<weir_crds::Stream> {
    let object = ObjectRef { namespace: "media".into(), name: name.into() };
    &observed.streams.as_ref().unwrap()[&object]
}

fn readable<'a>(observed: &'a Observed, name: &str) -> &'a weir_crds::Stream {
    match found(observed, name) {
        Object::Readable(stream) => stream,
        Object::Malformed { message, .. } => panic!("{message}"),
    }
}

fn message(observed: &Observed, name: &str) -> String {
    match found(observed, name) {
        Object::Malformed { message, .. } => message.clone(),
        Object::Readable(_) => panic!("{name} is readable"),
    }
}

#[test]
fn objects_come_with_their_defaults_and_with_what_an_api_server_adds() {
    let mut site = site();
    site.write(
        "a.yaml",
        "apiVersion: weir.dev/v1alpha1\nkind: Stream\nmetadata: {name: bunny, uid: theirs, resourceVersion: '5'}\nspec: {inputs: [{url: 'publish://'}]}\n",
    );
    let observed = site.look();
    let (object, stream) = observed.streams.as_ref().unwrap().iter().next().unwrap();
    assert_eq!(object.namespace, "default");
    let Object::Readable(stream) = stream else { panic!() };
    assert!(stream.spec.r#static, "a default");
    let metadata = &stream.metadata;
    assert_eq!((metadata.generation, metadata.resource_version.as_deref()), (Some(1), None));
    assert_ne!(metadata.uid.as_deref(), Some("theirs"));
    assert_eq!(metadata.creation_timestamp.as_ref().unwrap().0.as_second(), 1_700_000_000);
    assert_eq!(observed.problems, [] as [String; 0]);
}

#[test]
fn an_edit_is_a_generation_and_age_and_uid_stay_over_a_restart() {
    let mut site = site();
    site.write("a.yaml", &stream("bunny", "udp://239.0.0.1:1"));
    let first = readable(&site.look(), "bunny").metadata.clone();
    site.write("a.yaml", &stream("bunny", "udp://239.0.0.1:22"));
    let edited = readable(&site.look(), "bunny").metadata.clone();
    assert_eq!((edited.generation, &edited.uid), (Some(2), &first.uid));
    let restarted = readable(&site.restart(), "bunny").metadata.clone();
    assert_eq!(restarted, edited);

    fs::rename(site.path("a.yaml"), site.path("b.yaml")).unwrap();
    assert_eq!(readable(&site.look(), "bunny").metadata, edited, "a file's name is nothing to its objects");
}

#[test]
fn a_look_at_the_same_files_gives_nothing_new() {
    let mut site = site();
    site.write("a.yaml", &streams(&["one"]));
    assert_eq!(site.picture.refresh(true, now()), Refreshed::New);
    assert_eq!(site.picture.refresh(true, now()), Refreshed::Same);
    let text = fs::read(site.path("a.yaml")).unwrap();
    fs::write(site.path("a.yaml"), text).unwrap();
    assert_eq!(site.picture.refresh(true, now()), Refreshed::Same);
}

#[test]
fn a_file_that_is_being_written_is_not_read() {
    let mut site = site();
    site.write("a.yaml", &streams(&["one", "two"]));
    site.look();
    site.write("a.yaml", &streams(&["one"]));
    assert_eq!(site.picture.refresh(false, now()), Refreshed::Changing);
    assert_eq!(names(&site.observed()), ["one", "two"]);
    site.write("a.yaml", &streams(&["one", "two", "three"]));
    assert_eq!(site.picture.refresh(false, now()), Refreshed::Changing);
    assert_eq!(site.picture.refresh(false, now()), Refreshed::New, "two looks in a row saw the same");
    assert_eq!(names(&site.observed()), ["one", "three", "two"]);
}

#[test]
fn a_broken_file_keeps_its_objects_and_no_other_file_suffers() {
    for broken in ["a: [", "", "\n\n", "\u{0}"] {
        let mut site = site();
        site.write("a.yaml", &streams(&["one", "two"]));
        site.write("b.yaml", &streams(&["three"]));
        site.look();
        site.write("a.yaml", broken);
        site.write("b.yaml", &streams(&["four"]));
        for observed in [site.look(), site.restart()] {
            assert_eq!(names(&observed), ["four", "one", "two"], "{broken:?}");
            let [problem] = observed.problems.as_slice() else { panic!("{:?}", observed.problems) };
            assert!(problem.contains("a.yaml") && problem.contains("the 2 objects"), "{problem}");
        }
        site.write("a.yaml", &streams(&["one"]));
        let observed = site.look();
        assert_eq!((names(&observed), observed.problems.len()), (vec!["four".to_owned(), "one".to_owned()], 0));
    }
}

#[test]
fn an_object_that_moves_out_of_a_broken_file_is_taken_from_where_it_is() {
    let mut site = site();
    site.write("a.yaml", &streams(&["one"]));
    site.look();
    site.write("a.yaml", "{");
    site.write("b.yaml", &stream("one", "udp://239.0.0.1:22"));
    let observed = site.look();
    assert_eq!(readable(&observed, "one").spec.inputs[0].url, "udp://239.0.0.1:22");
    assert_eq!(observed.problems.len(), 1, "the file is broken, the object is not there twice");
}

#[test]
fn while_the_directory_is_missing_or_emptied_everything_stays_as_it_was_declared() {
    let mut site = site();
    site.write("a.yaml", &streams(&["one"]));
    site.write(
        "s.yaml",
        "apiVersion: weir.dev/v1alpha1\nkind: Streamer\nmetadata: {namespace: media, name: s1}\nspec: {}\n",
    );
    site.look();
    let (there, away) = (site.path(""), site.dir.path().join("away"));
    fs::rename(&there, &away).unwrap();
    for observed in [site.look(), site.restart()] {
        assert_eq!(names(&observed), ["one"]);
        assert_eq!(observed.streamers.unwrap().len(), 1);
        assert!(observed.problems[0].contains("not known"), "{:?}", observed.problems);
    }
    fs::create_dir(&there).unwrap();
    for observed in [site.look(), site.restart()] {
        assert_eq!(names(&observed), ["one"], "an empty mount point");
        assert!(observed.problems[0].contains("no manifest any more"), "{:?}", observed.problems);
    }
    fs::remove_dir(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    let observed = site.look();
    assert_eq!((names(&observed), observed.problems.len()), (vec!["one".to_owned()], 0));
}

#[test]
fn the_last_stream_can_be_removed_on_purpose() {
    let mut site = site();
    site.write("a.yaml", &streams(&["one"]));
    site.look();
    fs::remove_file(site.path("a.yaml")).unwrap();
    site.write("README.yaml", "# nothing here, on purpose\n");
    assert_eq!(names(&site.look()), [] as [&str; 0]);
    assert_eq!(names(&site.restart()), [] as [&str; 0]);
}

#[test]
fn a_directory_that_was_always_empty_is_known_to_be() {
    assert_eq!(names(&site().look()), [] as [&str; 0]);
}

#[test]
fn a_bad_object_sets_aside_only_itself_and_says_where_it_is() {
    let mut site = site();
    site.write("a.yaml", &(streams(&["one"]) + &stream("bad", "nonsense") + &streams(&["two"])));
    let observed = site.look();
    assert_eq!(names(&observed), ["bad!", "one", "two"]);
    let message = message(&observed, "bad");
    assert!(message.contains("a.yaml, document 2: spec.inputs[0].url"), "{message}");
}

#[test]
fn the_same_rules_as_in_a_cluster_about_changes_too() {
    let mut site = site();
    let named = |name: &str| stream("one", "publish://").replace("spec: {", &format!("spec: {{name: {name}, "));
    site.write("a.yaml", &named("mylive/one"));
    let uid = readable(&site.look(), "one").metadata.uid.clone();
    site.write("a.yaml", &named("mylive/other"));
    for observed in [site.look(), site.restart()] {
        assert!(message(&observed, "one").contains("name cannot be changed"), "{}", message(&observed, "one"));
    }
    site.write("a.yaml", &named("mylive/one"));
    let observed = site.look();
    assert_eq!(readable(&observed, "one").metadata.uid, uid);
    assert_eq!(readable(&observed, "one").metadata.generation, Some(1));
}

#[test]
fn the_second_of_two_is_set_aside_and_it_is_not_the_one_that_was_there() {
    let mut site = site();
    site.write("b.yaml", &streams(&["one"]));
    site.look();
    site.write("a.yaml", &stream("one", "udp://239.0.0.9:9"));
    let observed = site.look();
    assert_eq!(readable(&observed, "one").spec.inputs[0].url, "udp://239.0.0.1:1");
    let [problem] = observed.problems.as_slice() else { panic!("{:?}", observed.problems) };
    assert!(problem.contains("a.yaml, document 1") && problem.contains("b.yaml, document 1"), "{problem}");
}

#[test]
fn secrets_of_our_type_are_credentials_and_nothing_of_them_is_said() {
    let mut site = site();
    site.write(
        "s.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata: {namespace: media, name: cam}\ntype: weir.dev/credentials\ndata: {user: YWRtaW4=}\nstringData: {password: canary}\n---\napiVersion: v1\nkind: Secret\nmetadata: {namespace: media, name: bad}\ntype: weir.dev/credentials\ndata: {password: canary!}\n---\napiVersion: v1\nkind: Secret\nmetadata: {namespace: media, name: other}\nstringData: {password: canary}\n",
    );
    let observed = site.look();
    let secrets = observed.secrets.as_ref().unwrap();
    let (object, credentials) = secrets.iter().next().unwrap();
    assert_eq!((secrets.len(), object.name.as_str()), (1, "cam"));
    assert_eq!(credentials.0["user"], b"admin");
    assert_eq!(credentials.0["password"], b"canary");
    let [problem] = observed.problems.as_slice() else { panic!("{:?}", observed.problems) };
    assert!(problem.contains("data.password is not base64"), "{problem}");
    assert!(!format!("{observed:?}").contains("canary"));
}

#[test]
fn what_is_not_ours_is_set_aside_with_a_line() {
    let mut site = site();
    site.write(
        "a.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n---\napiVersion: media.flussonic.com/v1alpha1\nkind: Streamer\nmetadata: {name: theirs}\n---\nmetadata: {name: x}\n---\n- 1\n---\napiVersion: weir.dev/v1alpha1\nkind: Stream\nmetadata: {name: ../up}\n",
    );
    let observed = site.look();
    assert_eq!((names(&observed).len(), observed.streamers.unwrap().len()), (0, 0));
    let problems = observed.problems.join("\n");
    for what in ["document 3: is no Kubernetes object", "document 4: is no Kubernetes object", "without a usable name"]
    {
        assert!(problems.contains(what), "{problems}");
    }
    assert_eq!(observed.problems.len(), 3, "other kinds are no problem: {problems}");
}

#[test]
fn only_the_namespaces_that_were_named_count() {
    let site = site();
    site.write("a.yaml", &(streams(&["one"]) + &streams(&["two"]).replace("namespace: media", "namespace: other")));
    let root = site.dir.path();
    let mut picture =
        Picture::open(&root.join("manifests"), &root.join("state"), BTreeSet::from(["other".to_owned()])).unwrap();
    picture.refresh(true, now());
    let observed = picture.observed(&Statuses::load(&root.join("state")).unwrap());
    assert_eq!(names(&observed), ["two"]);
}

#[test]
fn a_mounted_config_map_is_swapped_as_a_whole() {
    let mut site = site();
    for (generation, text) in [("..1", streams(&["one", "two"])), ("..2", streams(&["one", "three"]))] {
        fs::create_dir(site.path(generation)).unwrap();
        fs::write(site.path(generation).join("a.yaml"), text).unwrap();
    }
    symlink("..1", site.path("..data")).unwrap();
    symlink("..data/a.yaml", site.path("a.yaml")).unwrap();
    assert_eq!(names(&site.look()), ["one", "two"]);
    symlink("..2", site.path("..data_tmp")).unwrap();
    fs::rename(site.path("..data_tmp"), site.path("..data")).unwrap();
    assert_eq!(names(&site.look()), ["one", "three"]);
}
