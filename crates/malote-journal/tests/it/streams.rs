//! Streams are made as their files say, and refused when they are otherwise.

use malote_domain::StoreId;
use malote_journal::streams::{StreamFile, Streams, StreamsError};
use serde_json::{Value, json};

use crate::fixture::{Nodes, World, on_one_and_on_three, unique};

on_one_and_on_three!(on:
    every_stream_is_there_and_as_its_file_says,
    two_hubs_at_once_make_one_stream,
    a_difference_is_refused_by_name,
    a_stream_that_the_broker_cannot_make_is_refused,
);

fn all(world: &World) -> Streams {
    Streams::load(None, Some(world.nodes.replicas())).unwrap()
}

/// A file of a stream that is not there yet.
fn file(world: &World) -> StreamFile {
    let name = unique("DRIFT");
    StreamFile { subjects: vec![format!("{name}.>")], name, ..all(world).fixed()[0].clone() }
}

async fn info(world: &World, stream: &str) -> Value {
    world.api(&format!("STREAM.INFO.{stream}"), Value::Null).await
}

async fn every_stream_is_there_and_as_its_file_says(world: World) {
    let store = all(&world).of_store(&StoreId::parse(&unique("store")).unwrap());
    store.ensure(world.journal.connection()).await.unwrap();
    for file in all(&world).fixed().iter().chain([&store]) {
        // A second time, for the hub's next start.
        file.ensure(world.journal.connection()).await.unwrap();
        let config = info(&world, &file.name).await["config"].clone();
        assert_eq!(config["subjects"], json!(file.subjects), "{config}");
        assert_eq!(config["num_replicas"], file.replicas, "{config}");
        assert_eq!(config["storage"], "file", "{config}");
        let event = !file.schedules && !file.purgeable;
        let is = |field: &str| config[field] == true;
        assert_eq!((is("deny_delete"), is("deny_purge")), (!file.schedules, event), "{config}");
        assert_eq!((is("allow_rollup_hdrs"), is("allow_msg_ttl")), (file.schedules, false), "{config}");
        assert_eq!(config["discard"], if file.schedules { "old" } else { "new" }, "{config}");
    }
}

async fn two_hubs_at_once_make_one_stream(world: World) {
    let (file, another) = (file(&world), world.another().await);
    let both = tokio::join!(file.ensure(world.journal.connection()), file.ensure(another.connection()));
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    assert_eq!(info(&world, &file.name).await["config"]["name"], json!(file.name));
}

/// A stream as the file says but for one field, and what is said of it.
async fn differences(world: &World, change: Value) -> Vec<String> {
    let file = file(world);
    file.ensure(world.journal.connection()).await.unwrap();
    let mut config = info(world, &file.name).await["config"].clone();
    world.api(&format!("STREAM.DELETE.{}", file.name), Value::Null).await;
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let answer = world.api(&format!("STREAM.CREATE.{}", file.name), config).await;
    assert!(answer.get("error").is_none(), "{change}: {answer}");
    match file.ensure(world.journal.connection()).await {
        Err(StreamsError::Drift { stream, differences }) => {
            assert_eq!(stream, file.name);
            differences
        }
        other => panic!("{change}: {other:?}"),
    }
}

async fn a_difference_is_refused_by_name(world: World) {
    let mut changes = vec![
        json!({ "subjects": [format!("{}.other", unique("DRIFT"))] }),
        json!({ "retention": "interest" }),
        json!({ "storage": "memory" }),
        json!({ "discard": "old" }),
        json!({ "max_msgs": 1000 }),
        json!({ "max_msgs_per_subject": 1 }),
        json!({ "max_bytes": 1_000_000 }),
        json!({ "max_age": 3_600_000_000_000_u64 }),
        json!({ "max_msg_size": 1000 }),
        json!({ "max_consumers": 7 }),
        json!({ "duplicate_window": 60_000_000_000_u64 }),
        json!({ "allow_direct": false }),
        json!({ "allow_atomic": false }),
        json!({ "deny_delete": false }),
        json!({ "deny_purge": false }),
        json!({ "allow_msg_ttl": true }),
        json!({ "no_ack": true }),
        json!({ "subject_transform": { "src": ">", "dest": "x.>" } }),
    ];
    if world.nodes == Nodes::Three {
        changes.push(json!({ "num_replicas": 1 }));
    }
    for change in changes {
        let field = change.as_object().unwrap().keys().next().unwrap().clone();
        let said = differences(&world, change).await;
        assert_eq!(said.len(), 1, "{field}: {said:?}");
        assert!(said[0].starts_with(&format!("{field}: ")), "{field}: {said:?}");
    }
    // Several at once are all named.
    let said = differences(&world, json!({ "max_msgs": 9, "max_consumers": 7 })).await;
    assert_eq!(said.len(), 2, "{said:?}");
    if world.nodes == Nodes::One {
        let change = json!({ "persist_mode": "async", "allow_atomic": false });
        let said = differences(&world, change).await.join("; ");
        assert!(said.contains("persist_mode: "), "{said}");
    }
}

async fn a_stream_that_the_broker_cannot_make_is_refused(world: World) {
    let taken = StreamFile { subjects: vec!["lots.*.*".into()], ..file(&world) };
    let result = taken.ensure(world.journal.connection()).await;
    let said = result.as_ref().map_or_else(ToString::to_string, |()| String::new());
    assert!(matches!(result, Err(StreamsError::Refused { .. })), "{result:?}");
    assert!(said.contains(&taken.name) && said.contains("overlap"), "{said}");
    // More copies than there are nodes.
    let copies = StreamFile { replicas: 5, ..file(&world) };
    let result = copies.ensure(world.journal.connection()).await;
    assert!(matches!(result, Err(StreamsError::Refused { .. })), "{result:?}");
}
