//! What the demonstration says to try works as it is printed.

use std::io::{BufRead as _, BufReader};

use super::Operator;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_demonstration_says_to_try_works() {
    let operator = Operator::new();
    let mut demo = operator.command(&["demo", "--listen", "127.0.0.1:0"]).spawn().expect("cnc starts");
    let said = BufReader::new(demo.stdout.take().expect("is piped")).lines().map(|line| line.expect("reads"));
    let said: Vec<String> = said.take_while(|line| !line.contains("Ctrl-C")).collect();
    let token = said.iter().find_map(|line| line.trim().strip_prefix("export TOKEN=")).expect("a token");
    let client = reqwest::Client::new();
    let (mut pages, mut commands) = (0, 0);
    for line in &said {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(url) = words.iter().find(|word| word.starts_with("http://")) {
            let answer = client.get(*url).bearer_auth(token).send().await.expect("answers");
            assert_eq!(answer.status(), 200, "{line}");
            pages += 1;
        } else if let Some(place) = words.iter().position(|word| *word == "cnc") {
            // The operator names its data folder by itself.
            operator.ok(words[place + 1..].split(|word| *word == "--data").next().expect("a command"));
            commands += 1;
        }
    }
    assert_eq!((pages, commands), (3, 1), "{said:#?}");
    demo.kill().expect("can be killed");
    demo.wait().expect("ends");
}
