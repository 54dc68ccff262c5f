//! The demo is run as it is shown, on a catalogue of a few hundred products.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;

const DEADLINE: Duration = Duration::from_secs(120);

#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn args(dir: Option<PathBuf>, data: Option<PathBuf>) -> Args {
    Args { exit: true, data, dir, products: 300 }
}

/// Runs a demo to its end and answers its summary and what it told.
async fn play(args: &Args) -> Result<(Value, String), DemoError> {
    let (data, told) = (Said::default(), Said::default());
    let mut shell = Shell::new(data.clone(), told.clone(), false, CancellationToken::new());
    let ran = tokio::time::timeout(DEADLINE, run(args, true, &mut shell));
    ran.await.expect("a demo takes no longer than that")?;
    Ok((serde_json::from_str(&data.text()).expect("one JSON object"), told.text()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_plays_to_its_end() {
    let (summary, told) = play(&args(None, None)).await.unwrap();
    assert_eq!(summary["ok"], true);
    assert_eq!((summary["stores"].as_u64(), summary["tills"].as_u64()), (Some(5), Some(10)));
    let steps = summary["steps"].as_array().unwrap();
    let of = |name: &str| steps.iter().map(|step| step[name].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(of("records"), [0, 600, 8, 0, 3, 297, 0]);
    assert_eq!(of("refused"), [0, 0, 0, 0, 0, 3, 0]);
    // Ten tills with 300 records of a kind; two are away in the third step.
    assert_eq!(of("checked"), [0, 6_000, 2_400, 3_000, 3_000, 3_000, 6_000]);
    assert_eq!(told.matches("refused line").count(), 3, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_was_used_before_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("hub.db"), "").unwrap();
    let refused = play(&args(Some(dir.path().to_owned()), None)).await.unwrap_err();
    assert!(matches!(&refused, DemoError::Dir { .. }), "{refused}");
    assert!(refused.to_string().contains("--dir"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_ones_own_are_taken() {
    let data = tempfile::tempdir().unwrap();
    crate::catalogue::write_csv(&data.path().join("products.csv"), 150).unwrap();
    std::fs::write(data.path().join("stores.csv"), "store,pdvs\n2,4\n12,1\n31,2\n44,9\n50,1\n60,2\n")
        .unwrap();
    let (summary, told) = play(&args(None, Some(data.path().to_owned()))).await.unwrap();
    assert_eq!((summary["stores"].as_u64(), summary["tills"].as_u64()), (Some(5), Some(8)), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_stores_are_refused_before_anything_starts() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("stores.csv"), "store,pdvs\n2,4\n").unwrap();
    let refused = play(&args(None, Some(data.path().to_owned()))).await.unwrap_err();
    assert!(matches!(&refused, DemoError::Stores { .. }), "{refused}");
}
