//! One row for each SealedSecret in a file, and for each that is only in the cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::live::{Live, LiveObject, ObjectId};
use super::tree::FileObject;
use super::{Position, Row, State};
use crate::cluster::Newest;

/// Joins the SealedSecrets of files and of a cluster by namespace and name. `None` if files or a cluster were not read.
/// Rows are in the order of namespace, name, file and line. Several files may contain the same object.
pub fn join(files: Option<Vec<FileObject>>, live: Option<Live>) -> Vec<Row> {
    let has_files = files.is_some();
    let has_cluster = live.is_some();
    let objects = live.into_iter().flat_map(|live| live.objects);
    let live: BTreeMap<ObjectId, LiveObject> =
        objects.map(|object| (object.id.clone(), object)).collect();
    let mut in_files = BTreeSet::new();
    let mut rows = Vec::new();
    for file in files.into_iter().flatten() {
        let id = (
            file.namespace.clone().unwrap_or_default(),
            file.name.clone(),
        );
        let object = live.get(&id);
        rows.push(file_row(file, object, has_cluster));
        in_files.insert(id);
    }
    let only_live = live.into_iter().filter(|(id, _)| !in_files.contains(id));
    rows.extend(only_live.map(|(_, object)| live_row(object, has_files)));
    rows.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    rows
}

fn sort_key(row: &Row) -> impl Ord + '_ {
    let position = row.position.as_ref();
    let position = position.map(|position| (&position.path, position.line));
    (&row.namespace, &row.name, position)
}

fn file_row(file: FileObject, live: Option<&LiveObject>, has_cluster: bool) -> Row {
    let state = live.map_or(State::NotInCluster, |live| state_of_file(&file, live));
    Row {
        namespace: file.namespace,
        name: file.name,
        content: Some(file.content),
        position: Some(Position {
            path: file.path,
            line: file.line,
            change: file.change,
        }),
        live: live.cloned(),
        state: has_cluster.then_some(state),
    }
}

/// Returns the state of an object in a file and in the cluster. A failure takes precedence over a difference.
fn state_of_file(file: &FileObject, live: &LiveObject) -> State {
    let digest = live.content.as_ref().map(|content| content.digest);
    match state(live) {
        State::Failed => State::Failed,
        _ if digest != Some(file.content.digest) => State::Differs,
        state => state,
    }
}

/// Returns the row of an object that no file contains. A failure takes precedence over the missing file.
fn live_row(live: LiveObject, has_files: bool) -> Row {
    let state = match state(&live) {
        State::Failed => State::Failed,
        _ if has_files => State::NoFile,
        state => state,
    };
    Row {
        namespace: Some(live.id.0.clone()),
        name: live.id.1.clone(),
        content: live.content.clone(),
        position: None,
        live: Some(live),
        state: Some(state),
    }
}

/// Returns the state of an object in the cluster. An unsealed object has failed too if its condition `Synced` is
/// `False`, for example because its Secret cannot be written.
fn state(live: &LiveObject) -> State {
    let condition = live.condition.as_ref();
    let is_not_synced = condition.is_some_and(|c| c.kind == "Synced" && c.status == "False");
    match live.newest {
        Newest::NotReported | Newest::NotRecorded => State::Pending,
        Newest::Failed => State::Failed,
        Newest::Recorded if is_not_synced => State::Failed,
        Newest::Recorded => State::Ok,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use shared::scope::Scope;

    use super::super::live::Condition;
    use super::super::{Content, Delivery};
    use super::*;

    pub(in super::super) fn content() -> Content {
        Content {
            items: vec!["password".to_owned()],
            scope: Scope::Strict,
            formats: ["v1 2048".to_owned()].into(),
            keys: ["SHA256:a".to_owned()].into(),
            delivery: Delivery::Secret,
            rotate_by: None,
            digest: [0; 32],
        }
    }

    pub(in super::super) fn file(path: &str, namespace: Option<&str>, name: &str) -> FileObject {
        FileObject {
            path: path.into(),
            line: 1,
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
            content: content(),
            change: None,
        }
    }

    pub(in super::super) fn live(name: &str, newest: Newest, synced: &str) -> LiveObject {
        LiveObject {
            id: ("shop".to_owned(), name.to_owned()),
            content: Some(content()),
            newest,
            condition: Some(Condition {
                kind: "Synced",
                status: synced.to_owned(),
                reason: String::new(),
            }),
            generation: Some(1),
            unsealed_generation: Some(1),
            has_secret: Some(true),
        }
    }

    fn states(rows: &[Row]) -> Vec<(&str, Option<&'static str>)> {
        let state = |row: &Row| row.state.map(State::name);
        rows.iter().map(|row| (&*row.name, state(row))).collect()
    }

    #[test]
    fn joins_by_namespace_and_name() {
        let files = vec![
            file("b.yaml", Some("shop"), "ok"),
            file("a.yaml", Some("shop"), "ok"),
            file("c.yaml", Some("other"), "ok"),
            file("d.yaml", None, "ok"),
        ];
        let cluster = Live {
            objects: vec![
                live("ok", Newest::Recorded, "True"),
                live("failed", Newest::Failed, "False"),
                live("only", Newest::Recorded, "True"),
            ],
            secrets: None,
        };
        let rows = join(Some(files), Some(cluster));
        let want = [
            ("ok", Some("not-in-cluster")),
            ("ok", Some("not-in-cluster")),
            ("failed", Some("failed")),
            ("ok", Some("ok")),
            ("ok", Some("ok")),
            ("only", Some("no-file")),
        ];
        assert_eq!(states(&rows), want);
        let paths: Vec<_> = rows
            .iter()
            .filter_map(|row| row.position.as_ref())
            .collect();
        let paths: Vec<_> = paths.iter().map(|p| p.path.display().to_string()).collect();
        assert_eq!(paths, ["d.yaml", "c.yaml", "a.yaml", "b.yaml"]);
    }

    /// Otherwise the file of another cluster, or a value that was not applied, is reported as `ok`.
    #[test]
    fn a_file_whose_content_the_cluster_does_not_have_differs() {
        let changed = || {
            let mut changed = file("a.yaml", Some("shop"), "db");
            changed.content.digest = [1; 32];
            changed
        };
        let malformed = LiveObject {
            content: None,
            ..live("db", Newest::Recorded, "True")
        };
        for (object, want) in [
            (live("db", Newest::Recorded, "True"), "differs"),
            (live("db", Newest::NotReported, ""), "differs"),
            (live("db", Newest::Failed, "False"), "failed"),
            (malformed, "differs"),
        ] {
            let cluster = Live {
                objects: vec![object],
                secrets: None,
            };
            let rows = join(Some(vec![changed()]), Some(cluster));
            assert_eq!(states(&rows), [("db", Some(want))]);
            assert_eq!(rows[0].state.map(State::is_finding), Some(true));
        }
    }

    #[test]
    fn the_state_depends_on_what_was_read() {
        let rows = join(Some(vec![file("a.yaml", Some("shop"), "db")]), None);
        assert_eq!(states(&rows), [("db", None)]);
        for (newest, synced, want) in [
            (Newest::Recorded, "True", "ok"),
            (Newest::Recorded, "Unknown", "ok"),
            (Newest::Recorded, "False", "failed"),
            (Newest::Failed, "False", "failed"),
            (Newest::NotRecorded, "True", "pending"),
            (Newest::NotReported, "", "pending"),
        ] {
            let objects = vec![live("db", newest, synced)];
            let cluster = Live {
                objects,
                secrets: None,
            };
            let rows = join(None, Some(cluster));
            assert_eq!(states(&rows), [("db", Some(want))], "{newest:?} {synced}");
        }
    }
}
