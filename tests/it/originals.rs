//! Side by side with Python credstash 1.17.1, wherever it is not plainly wrong: the same arguments give the same bytes
//! on standard output, the same exit code, the same rows, and where scripts may look at it the same message.

use serde_json::{Value, json};

use crate::world::{Ran, World};

/// A table for each of the two programs, on which the same is done.
struct Twins {
    ours: World,
    theirs: World,
}

impl Twins {
    fn new() -> Self {
        Self { ours: World::dynamodb(), theirs: World::dynamodb() }
    }

    /// Runs both with the words of this line, where single quotes hold words together; both must print the same and
    /// exit alike, and say something on stderr or not.
    #[track_caller]
    fn alike(&self, line: &str) -> (Ran, Ran) {
        self.alike_with(b"", line)
    }

    #[track_caller]
    fn alike_with(&self, stdin: &[u8], line: &str) -> (Ran, Ran) {
        let (ours, theirs) = (self.ours.run_with(stdin, words(line)), self.theirs.python_with(stdin, words(line)));
        assert_eq!(ours.code, theirs.code, "{line}\n\n{ours}\n\n{theirs}");
        assert!(ours.stdout == theirs.stdout, "{line}\n\n{ours}\n\n{theirs}");
        assert_eq!(ours.stderr.is_empty(), theirs.stderr.is_empty(), "{line}\n\n{ours}\n\n{theirs}");
        (ours, theirs)
    }

    /// As [`Twins::alike`], for each of these lines.
    #[track_caller]
    fn all_alike(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.alike(line);
        }
    }

    /// As [`Twins::alike`], with the same message on stderr, this one.
    #[track_caller]
    fn both_say(&self, line: &str, message: &str) {
        let (ours, theirs) = self.alike(line);
        theirs.says(&format!("{message}\n"));
        ours.says(&format!("{message}\n"));
    }

    /// What tells the rows of the two tables apart is only what is random.
    #[track_caller]
    fn rows_are_alike(&self) {
        let known = |world: &World| -> Vec<Value> {
            let rows = world.rows();
            rows.iter().map(|row| json!([row["name"], row["version"], row["digest"], row["comment"]])).collect()
        };
        assert_eq!(known(&self.ours), known(&self.theirs));
    }
}

/// The words of a line, where single quotes hold words together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut is_quoted = false;
    for character in line.chars() {
        match character {
            '\'' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            ' ' if !is_quoted => words.extend(word.take()),
            character => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

// --- Arguments ----------------------------------------------------------------------------------

#[test]
fn options_before_and_after_all_words() {
    let twins = Twins::new();
    twins.all_alike(
        "put -a x v k=v
         put x v k=v -a
         put x w -a
         put -v 9 -c comment x v
         put x v -c 'a comment' -v 10 -d SHA512
         put --version 11 --comment c --digest MD5 --key alias/credstash x v
         put -k alias/credstash -v 12 x v
         get -n x
         get x -n
         get --noline x
         get -v 1 x k=v
         get x k=v -v 2
         getall -f json -v 10
         get x* -f csv -v 9
         list
         keys",
    );
    twins.rows_are_alike();
}

#[test]
fn values_of_options_glue_on() {
    let twins = Twins::new();
    twins.all_alike(
        "put a v -v1
         put a v -v=2
         put a v --version=3
         put a v -av9
         get a -v1
         get a -v=2
         get a --version=3
         get -nv1 a
         get -fjson a*
         get a* --format=csv",
    );
    let table = format!("-t{} list", twins.ours.table());
    twins.ours.run(words(&table)).ok(twins.ours.run(["list"]).stdout);
    twins.rows_are_alike();
}

/// A word with a space in it is an argument, unless it names an option; and an option alone is no value.
#[test]
fn words_that_begin_with_a_hyphen() {
    let twins = Twins::new();
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA7\nqqq==\n-----END PRIVATE KEY-----\n";
    for value in [pem, "---\na: b", "- one\n- two", "- ", "--foo bar", "-zfoo b", "-4a b", "-5", "-.5"] {
        twins.alike(&format!("put -a a '{value}'"));
        twins.alike(&format!("put -a b '{value}' k=v -c '{value}'"));
        twins.alike("get a");
        twins.alike("get b k=v");
    }
    twins.all_alike(
        "put '- a' v
         get '- a'
         delete '- a'
         put a -hunter2
         put a '-h x'
         put a -ahunter2
         put a -thunter2
         put a -rhunter2
         put a -zhunter2
         put a --hunter2
         put a v -c
         put a v -c -a
         put a v -v -- 7
         put --k alias/credstash c v
         put a v -v 9 --dig SHA512
         --t nowhere list
         keys
         list",
    );
    twins.rows_are_alike();
}

#[test]
fn long_options_may_be_shortened() {
    let twins = Twins::new();
    twins.all_alike(
        "put a v --versio 1
         put a v --auto
         put a v --autov --comm c
         get a --vers 2
         get --nol a
         getall --form csv
         --log-f /dev/null keys
         --regio us-east-1 keys",
    );
    twins.rows_are_alike();
}

#[test]
fn the_last_of_a_repeated_option_counts() {
    let twins = Twins::new();
    twins.all_alike(
        "put a v -v 1 -v 2
         put a v -c one -c two -v 3
         put a v -a -a
         get -f csv -f json a*
         get a -v 9 -v 2
         list",
    );
    twins.rows_are_alike();
}

#[test]
fn words_that_begin_with_a_dash() {
    let twins = Twins::new();
    twins.all_alike(
        "put a -5
         get a
         put b -1.5
         get b
         put c v -v -1
         list
         put -- -d v
         get -- -d
         put e -- -value
         get e
         get -- a
         put f --
         delete -- -d",
    );
    twins.rows_are_alike();
}

#[test]
fn contexts_are_pairs() {
    let twins = Twins::new();
    twins.all_alike(
        "put a v k=v
         put b v k=v l=w
         get b l=w k=v
         put c v k=old k=new
         get c k=new
         get a
         get a k
         get a k=
         get a =v
         get a =
         put d v k
         put d v k=
         getall k=
         setup --tags word",
    );
    twins.rows_are_alike();
}

#[test]
fn wrong_usage() {
    let twins = Twins::new();
    for line in [
        "bogus",
        "get",
        "put",
        "putall",
        "delete",
        "delete a b",
        "keys x",
        "list x",
        "get a -f xml",
        "list --frobnicate",
        "put a b -v",
        "put a b -c",
        "put a b -d SHA1",
        "put a b -d sha256",
        "-t",
        "-r",
        "get -x a",
        "--bogus list",
        "-p x -n arn:aws:iam::123456789012:role/r list",
        "setup x",
        "get a word",
    ] {
        let (ours, theirs) = twins.alike(line);
        assert_eq!(ours.code, Some(2), "{ours}");
        for ran in [ours, theirs] {
            assert!(ran.stderr.starts_with("usage: credstash"), "{ran}");
            ran.mentions("error: ");
        }
    }
}

/// The messages of wrong contexts, to the word, are what somebody sees first.
#[test]
fn a_wrong_context_is_shown() {
    let twins = Twins::new();
    for word in ["k", "k=", "=v"] {
        let (ours, theirs) = twins.alike(&format!("get a {word}"));
        let message = format!("credstash get: error: argument context: '{word}' is not the form of \"key=value\"\n");
        assert!(theirs.stderr.ends_with(&message), "{theirs}");
        assert!(ours.stderr.ends_with(&message), "{ours}");
    }
}

/// No command at all is a question.
#[test]
fn no_command_shows_the_help() {
    let world = World::no_cloud();
    let help = world.run(["-h"]);
    assert!(help.text().contains("getall"), "{help}");
    let nothing: [&str; 0] = [];
    assert_eq!(world.run(nothing).code, Some(0));
    assert_eq!(world.run(nothing).stdout, help.stdout);
    assert_eq!(world.python(["-h"]).code, Some(0));
    assert_eq!(world.python(nothing).code, Some(0));
}

// --- Values -------------------------------------------------------------------------------------

#[test]
fn where_values_come_from() {
    let twins = Twins::new();
    let file = twins.ours.file("value", "from a file\n\n");
    for world in [&twins.ours, &twins.theirs] {
        world.home_file("value", "from the home folder");
    }
    twins.all_alike(&format!(
        "put a @{file}
         get a
         put b @~/value
         get b
         put c user@host
         get c
         put d '@/nonexistent/file'
         put d '@~/none'
         put e ' spaces '
         get e
         put f --
         put g '*'
         get g"
    ));
    for (name, stdin) in
        [("s1", &b"from stdin\n"[..]), ("s2", b"no line feed"), ("s3", b"\r\n \t"), ("s4", "é☃".as_bytes())]
    {
        twins.alike_with(stdin, &format!("put {name} -"));
        twins.alike(&format!("get {name} -n"));
    }
    // Only the first character has a meaning, and what is read has none.
    twins.alike_with(b"@/etc/passwd", "put s5 -");
    twins.alike("get s5");
    twins.rows_are_alike();
}

#[test]
fn an_unreadable_file_is_shown() {
    let twins = Twins::new();
    for (line, argument) in [("put a @/nonexistent/file", "value"), ("putall @/nonexistent/file", "credentials")] {
        let (ours, theirs) = twins.alike(line);
        let message = format!("error: argument {argument}: Unable to read file /nonexistent/file");
        theirs.mentions(&message);
        ours.mentions(&message);
    }
}

// --- Versions -----------------------------------------------------------------------------------

/// Padding is of text, not of numbers.
#[test]
fn versions_are_padded() {
    let twins = Twins::new();
    twins.all_alike(
        "put a v -v 7
         put a v -v 007
         put a v -v abc
         put a v -v ''
         put a v -v 1.2.3
         put a v -v ' 8'
         put a v -v 1234567890123456789
         put a v -v 12345678901234567890
         put a v -v the-version-of-summer-2024
         list
         get a
         get a -v 7
         get a -v 0000000000000000abc
         get a -v 1234567890123456789
         get a -v 12345678901234567890
         get a -v the-version-of-summer-2024
         get a -v ''
         get a -v 0",
    );
    twins.rows_are_alike();
}

/// Numbers are read as Python's `int()` reads them.
#[test]
fn versions_are_asked_for_as_numbers() {
    let twins = Twins::new();
    twins.all_alike(
        "put a one
         put a two -v 12
         get a -v 1
         get a -v 01
         get a -v +1
         get a -v ' 1 '
         get a -v 1_2
         get a -v 0_1
         get a -v 000000000000000012
         get a -v 3
         get a -v -1
         get a -v 0000000000000000012",
    );
}

/// Python's numbers may be written in the digits of any script.
#[test]
fn versions_are_asked_for_in_any_digits() {
    let twins = Twins::new();
    twins.all_alike(
        "put a v -v 12
         get a -v ١٢
         get a -v १२
         get a -v １２",
    );
}

#[test]
fn counting_on() {
    let twins = Twins::new();
    twins.all_alike(
        "put a v -a
         put a v -a
         put a v -v 41
         put a v -a
         put a v -a -v 7
         put b v -v 0999
         put b v -a
         list",
    );
    twins.rows_are_alike();
    let message = "Can not autoincrement version. The current version: 0000000000000000abc is not an int";
    twins.alike("put c v -v abc");
    twins.both_say("put -a c v", message);
    twins.rows_are_alike();
}

// --- Messages -----------------------------------------------------------------------------------

#[test]
fn what_is_not_there() {
    let twins = Twins::new();
    twins.alike("put a v");
    twins.both_say("get b", "Item {'name': 'b'} couldn't be found.");
    twins.both_say("get 'b c'", "Item {'name': 'b c'} couldn't be found.");
    twins.both_say("get ключ", "Item {'name': 'ключ'} couldn't be found.");
    twins.both_say("get a -v 3", "Item {'name': 'a', 'version': '0000000000000000003'} couldn't be found.");
    twins.both_say("get b -v 1", "Item {'name': 'b', 'version': '0000000000000000001'} couldn't be found.");
}

/// Where this program says more, the words of the original come first, so that whoever looks for them finds them.
#[test]
fn messages_begin_with_the_words_of_the_original() {
    let twins = Twins::new();
    twins.all_alike("put a v k=v");
    for line in ["get a", "get a k=w", "put b v -k alias/none", "get b"] {
        let (ours, theirs) = twins.alike(line);
        let words = theirs.stderr.trim_end().trim_end_matches(')').to_owned();
        assert!(ours.stderr.starts_with(&words), "{ours}\n\n{theirs}");
    }
    let missing = Twins { ours: World::without_table(), theirs: World::without_table() };
    for line in ["list", "keys", "get a", "get a -v 1", "get a*", "put a v", "put -a a v", "delete a"] {
        let (ours, theirs) = missing.alike(line);
        assert!(ours.stderr.starts_with(theirs.stderr.trim_end()), "{ours}\n\n{theirs}");
    }
    let mut strangers = Twins::new();
    for world in [&mut strangers.ours, &mut strangers.theirs] {
        world.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    }
    for line in ["list", "get a", "put a v"] {
        let (ours, theirs) = strangers.alike(line);
        assert!(ours.stderr.starts_with(theirs.stderr.trim_end().trim_end_matches(')')), "{ours}\n\n{theirs}");
    }
}

// --- Listing and reading many -------------------------------------------------------------------

#[test]
fn lists() {
    let twins = Twins::new();
    twins.all_alike(
        "list
         keys
         put short v
         put 'a much longer name' v -c 'with a comment'
         put ключ☃ v
         put short v -a -c ''
         put Z v
         put ä v
         list
         keys",
    );
}

#[test]
fn patterns() {
    let twins = Twins::new();
    twins.all_alike(
        "put app.db.password one
         put app.db.user two
         put app.web.key three
         put other four
         put app.db.password five -a
         get *
         get app.*
         get app.*.user
         get *password
         get app.db.*w*
         get none*
         get none* -f csv
         get none* -f yaml
         get none* -f dotenv
         get *.key -f csv
         get *.user -f dotenv
         get *.user -f yaml
         get app.db.p* -v 1
         get app.db.p* -n
         get other -f csv",
    );
}

#[test]
fn getall_in_each_format() {
    let twins = Twins::new();
    twins.all_alike(
        "getall
         getall -f csv
         getall -f yaml
         getall -f dotenv
         put only 'a value'
         getall
         getall -f csv
         getall -f yaml
         getall -f dotenv
         put two 'so \"quoted\" / ☃ é 😀 \t'
         put three plain
         getall
         getall -f json -v 1
         getall -f yaml -v 1",
    );
    // The original's csv and dotenv are in no order.
    for format in ["csv", "dotenv"] {
        let sorted = |ran: Ran| {
            let mut lines: Vec<String> = ran.text().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let args = ["getall", "-f", format];
        assert_eq!(sorted(twins.ours.run(args)), sorted(twins.theirs.python(args)), "{format}");
    }
}

#[test]
fn deleting() {
    let twins = Twins::new();
    twins.all_alike(
        "put a v
         put a v -v 10
         put a v -v 2
         put ab v
         delete a
         list
         get a
         delete ab",
    );
    twins.rows_are_alike();
}

#[test]
fn documents() {
    let twins = Twins::new();
    let file = twins.ours.file("document.json", r#"{"from": "a file", "and": "more"}"#);
    twins.all_alike(&format!(
        "putall '{{\"b\": \"1\", \"a\": \"2\", \"b\": \"3\"}}'
         putall '{{}}'
         putall '{{\"a\": \"next\"}}' -a
         putall '{{\"c\": \"x\"}}' k=v -v 5 -d SHA512
         putall @{file}
         get a -v 0
         get a
         putall no-json
         putall [1]
         putall 5
         list"
    ));
    twins.alike_with(br#" {"s": "\u00e9\n\ud83d\ude00"} "#, "putall -");
    twins.alike("get s");
    twins.rows_are_alike();
}

/// `setup` on a table that is there, and the region that it saves.
#[test]
fn setup_where_all_is_done() {
    let twins = Twins::new();
    twins.all_alike(
        "setup
         setup --tags a=b c=d
         setup --save-kms-region us-east-1
         setup --save-kms-region=us-east-1",
    );
    let saved = |world: &World| -> Value {
        let text = std::fs::read_to_string(world.home(".credstash")).expect("the file is there");
        serde_json::from_str(&text).expect("JSON")
    };
    assert_eq!(saved(&twins.ours), saved(&twins.theirs));
    // Each reads what the other saved.
    twins.all_alike("put a v");
}

/// What was found to be wrong in the original is right here: it stays a difference on purpose.
#[test]
fn deliberate_differences() {
    let twins = Twins::new();
    twins.all_alike("put a v\nput axb v");
    // Options between words.
    assert_eq!(twins.theirs.python(["put", "a", "-a", "w"]).code, Some(2));
    twins.ours.run(["put", "a", "-a", "w"]).ok("a has been stored\n");
    // Only the star has a meaning.
    twins.ours.run(["put", "a.b", "v"]).ok("a.b has been stored\n");
    twins.ours.run(["get", "a.b*"]).ok("{\n    \"a.b\": \"v\"\n}");
    twins.ours.run(["get", "a(*"]).ok("{}");
    twins.ours.run(["get", "a|b*"]).ok("{}");
    // A version is found as it was put.
    twins.ours.run(["put", "c", "v", "-v", "abc"]).ok("c has been stored\n");
    twins.ours.run(["get", "c", "-v", "abc"]).ok("v\n");
    // What is not there is not deleted.
    twins.theirs.python(["delete", "none"]).ok("");
    twins.ours.run(["delete", "none"]).fails(1, "couldn't be found");
    // Global options after the command.
    let table = twins.ours.table().to_owned();
    assert_eq!(twins.theirs.python(["keys", "-t", &table]).code, Some(2));
    twins.ours.run(["keys", "-t", &table]).ok("a\na.b\naxb\nc\n");
    // An empty setting is none.
    let mut world = World::dynamodb();
    let table = world.table().to_owned();
    world.set("CREDSTASH_DEFAULT_TABLE", "").set("AWS_DEFAULT_REGION", "");
    world.run(["-t", &table, "list"]).ok("");
    // The table's own name is looked for, and does not exist.
    world.run(["list"]).fails(1, "credential-store in us-east-1");
    // A comment of putall is kept.
    twins.ours.run(["putall", r#"{"d": "v"}"#, "-c", "why"]).ok("d has been stored\n");
    assert_eq!(twins.ours.row("d")["comment"], json!({"S": "why"}));
}
