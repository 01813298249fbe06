//! Configuration: an address is what it says, and of what `~/.credstash` holds nothing is lost.
#![allow(unreachable_pub, reason = "the command line is a crate that nobody uses")]

use tempfile::TempDir;

use super::*;

/// Takes the case as an address, then as what `~/.credstash` holds.
pub fn check(case: &[u8]) {
    address(&String::from_utf8_lossy(case));
    thread_local! {
        static FOLDER: TempDir = tempfile::tempdir().expect("a temporary folder");
    }
    saved(&FOLDER.with(|folder| folder.path().join(".credstash")), case);
}

fn address(url: &str) {
    match parse(url) {
        Ok(Address::DynamoDb { table }) => {
            assert!((3..=255).contains(&table.len()), "{table}");
            assert!(table.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)), "{table}");
            assert!(url == format!("dynamodb:{table}") || (url == "dynamodb:" && table == DEFAULT_TABLE));
        }
        Ok(Address::Sqlite { made_by_readers: true, .. }) => assert_eq!(url, "local"),
        Ok(Address::Sqlite { path, key, made_by_readers: false }) => {
            let (path, key) = (path.to_str().expect("UTF-8"), key.to_str().expect("UTF-8"));
            assert!(!path.is_empty() && !key.is_empty());
            let in_full = format!("sqlite:{path}?key={key}");
            assert!(url == in_full || (url == format!("sqlite:{path}") && key == format!("{path}.key")));
            assert_eq!(parse(&in_full), parse(url));
        }
        Err(reason) => {
            let lacks_key = url.split_once("?key=").is_some_and(|(_, key)| key.is_empty());
            assert!(!reason.is_empty() && (lacks_key || !url.starts_with("sqlite:/")), "{reason}");
        }
    }
}

fn saved(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("written");
    let read = match read_saved(path) {
        Ok(read) => read,
        Err(Failed::Message(reason)) => {
            assert!(reason.starts_with(path.to_str().expect("UTF-8")), "{reason}");
            let is_object = serde_json::from_slice(content).is_ok_and(|value: Value| value.is_object());
            return assert!(!is_object, "{reason}");
        }
        Err(error) => panic!("{error:?}"),
    };
    assert_eq!(serde_json::from_slice::<Value>(content).ok(), Some(Value::Object(read.clone())));
    // With the digits of its numbers, however many there are.
    fs::write(path, Value::Object(read.clone()).to_string()).expect("written");
    let Ok(again) = read_saved(path) else { panic!("it can be read again") };
    assert_eq!(again, read);
}
