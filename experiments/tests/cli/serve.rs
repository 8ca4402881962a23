//! Tests of `foretoken serve`, with requests over a socket.

use super::*;

mod limits;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A running server, which ends with the value.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(bench: &Bench, args: &[&str]) -> Self {
        let mut command = bench.command(&[&["serve", "run", "--port", "0"], args].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines
            .find_map(|line| Some(line.unwrap()).filter(|line| line.starts_with("http://")))
            .unwrap();
        let address = line["http://".len()..]
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    /// Sends bytes, and returns status and body of the response, after which the connection is closed.
    fn exchange(&self, request: &[u8]) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).unwrap();
        let response = String::from_utf8(response).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.into())
    }

    fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, body) = self.exchange(request.as_bytes());
        (status, serde_json::from_str(&body).unwrap())
    }

    fn complete(&self, request: &Value) -> Value {
        let (status, answer) = self.send("POST", "/v1/completions", &request.to_string());
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Asserts that a request is refused with this status, and returns the message.
    fn refused(&self, request: &Value, expected: u16) -> String {
        let (status, answer) = self.send("POST", "/v1/completions", &request.to_string());
        assert_eq!(status, expected, "{request}: {answer}");
        let error = &answer["error"];
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap();
        assert_eq!(message.lines().count(), 1);
        message.into()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn numbers(values: &Value) -> Vec<Option<f64>> {
    values
        .as_array()
        .unwrap()
        .iter()
        .map(Value::as_f64)
        .collect()
}

#[test]
fn prompts_have_the_surprisal_of_predict() {
    let bench = Bench::trained();
    let server = Serving::start(&bench, &["--checkpoint", "last"]);
    let text = "the cat is";
    let args = [
        "predict",
        "run",
        "--checkpoint",
        "last",
        "--target",
        text,
        "--json",
    ];
    let predicted: Value = serde_json::from_str(&bench.succeed(&args)).unwrap();
    let expected: Vec<f64> = predicted["surprisals"]["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .map(|token| -token["bits"].as_f64().unwrap() * std::f64::consts::LN_2)
        .collect();

    let request = json!({"prompt": text, "max_tokens": 0, "echo": true, "logprobs": 2});
    let answer = server.complete(&request);
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], text);
    assert_eq!(choice["finish_reason"], "length");
    let logprobs = &choice["logprobs"];
    let found = numbers(&logprobs["token_logprobs"]);
    assert_eq!((found.len(), found[0]), (text.len(), None));
    for (found, expected) in found[1..].iter().zip(&expected) {
        assert!((found.unwrap() - expected).abs() < 1e-5);
    }
    assert_eq!(logprobs["top_logprobs"][0], Value::Null);
    let offsets: Vec<usize> = (0..text.len()).collect();
    assert_eq!(logprobs["text_offset"], json!(offsets));
    for place in 1..text.len() {
        let top = logprobs["top_logprobs"][place].as_object().unwrap();
        let highest = top
            .values()
            .filter_map(Value::as_f64)
            .fold(f64::MIN, f64::max);
        let own = found[place].unwrap();
        assert!(top.len() >= 2 && own <= highest);
        assert_eq!(top[logprobs["tokens"][place].as_str().unwrap()], own);
        let rank = &predicted["surprisals"]["tokens"][place - 1]["rank"];
        assert_eq!(own == highest, rank == 1);
    }
    assert_eq!(answer["usage"]["total_tokens"], text.len());

    // As lm-evaluation-harness asks: tokens, echo, one token more.
    let (_, tokens) = server.send("POST", "/tokenize", &json!({"prompt": text}).to_string());
    let request = json!({"prompt": [tokens["tokens"]], "max_tokens": 1, "temperature": 0, "echo": true, "logprobs": 1});
    let one_more = &server.complete(&request)["choices"][0]["logprobs"];
    let found_again = numbers(&one_more["token_logprobs"]);
    assert_eq!(found_again[..text.len()], found[..]);
    assert_eq!(found_again.len(), text.len() + 1);
    let (_, back) = server.send(
        "POST",
        "/detokenize",
        &json!({"tokens": tokens["tokens"]}).to_string(),
    );
    assert_eq!(back["prompt"], text);
}

#[test]
fn texts_are_those_of_generate() {
    let bench = Bench::trained();
    let server = Serving::start(&bench, &[]);
    let generate = |args: &[&str]| {
        let args = [&["generate", "run", "--prompt", "the ", "--json"], args].concat();
        serde_json::from_str::<Value>(&bench.succeed(&args)).unwrap()
    };
    let greedy = generate(&["--tokens", "9", "--greedy"]);
    let expected = greedy.to_string();
    let request = json!({"prompt": "the ", "max_tokens": 9, "temperature": 0});
    let text = server.complete(&request)["choices"][0]["text"].clone();
    assert!(expected.contains(&text.to_string()), "{text} {expected}");

    let drawn = generate(&["--tokens", "9", "--samples", "3", "--seed", "7"]).to_string();
    let request =
        json!({"prompt": ["the ", "she"], "max_tokens": 9, "n": 3, "seed": 7, "logprobs": 0});
    let answer = server.complete(&request);
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    for (index, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], index);
        if index < 3 {
            assert!(
                drawn.contains(&choice["text"].to_string()),
                "{choice} {drawn}"
            );
        }
        assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), 9);
    }
    assert_eq!(server.complete(&request)["choices"], answer["choices"]);

    let text = text.as_str().unwrap();
    let stop = &text[4..6];
    let request = json!({"prompt": "the ", "max_tokens": 9, "temperature": 0, "stop": stop, "echo": true, "logprobs": 1});
    let choice = &server.complete(&request)["choices"][0];
    let kept = &text[..text.find(stop).unwrap()];
    assert_eq!(choice["text"], format!("the {kept}"));
    assert_eq!(choice["finish_reason"], "stop");
    let tokens = choice["logprobs"]["tokens"].as_array().unwrap();
    let tokens: String = tokens.iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(tokens, format!("the {kept}"));
}

#[test]
fn a_stream_has_the_parts_of_the_whole() {
    let bench = Bench::trained();
    let server = Serving::start(&bench, &[]);
    let mut request = json!({"prompt": "the ", "max_tokens": 8, "seed": 3, "n": 2, "logprobs": 1});
    let whole = server.complete(&request);
    request["stream"] = true.into();
    let body = request.to_string();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (status, body) = server.exchange(format!("{head}{body}").as_bytes());
    assert_eq!(status, 200);
    let events: Vec<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .collect();
    assert_eq!(*events.last().unwrap(), "[DONE]");
    for index in 0..2 {
        let (mut text, mut tokens, mut reason) = (String::new(), 0, Value::Null);
        for event in &events[..events.len() - 1] {
            let event: Value = serde_json::from_str(event).unwrap();
            let choice = &event["choices"][0];
            if choice["index"] == index {
                text += choice["text"].as_str().unwrap();
                tokens += choice["logprobs"]["tokens"].as_array().unwrap().len();
                reason = choice["finish_reason"].clone();
            }
        }
        assert_eq!(text, whole["choices"][index]["text"].as_str().unwrap());
        assert_eq!((tokens, reason), (8, json!("length")));
    }
}

#[test]
fn what_is_asked_side_by_side_changes_no_answer() {
    let bench = Bench::trained();
    let server = Serving::start(&bench, &["--batch", "3"]);
    let requests: Vec<Value> = (0..12)
        .map(|number| {
            let prompt = &"the cat is she"[..3 + number % 9];
            json!({"prompt": prompt, "max_tokens": number % 5, "echo": true, "logprobs": 3, "seed": number, "n": 1 + number % 3})
        })
        .collect();
    let alone: Vec<Value> = requests
        .iter()
        .map(|one| server.complete(one)["choices"].clone())
        .collect();
    std::thread::scope(|scope| {
        let server = &server;
        let threads: Vec<_> = requests
            .iter()
            .map(|one| scope.spawn(move || server.complete(one)["choices"].clone()))
            .collect();
        for (thread, alone) in threads.into_iter().zip(alone) {
            assert_eq!(thread.join().unwrap(), alone);
        }
    });
}

#[test]
fn wrong_requests_have_a_status_and_the_server_goes_on() {
    let bench = Bench::trained();
    let server = Serving::start(&bench, &[]);
    for (request, part) in [
        (json!({}), "prompt is missing"),
        (json!({"prompt": 5}), "a string, a list of strings"),
        (json!({"prompt": []}), "empty list"),
        (json!({"prompt": [[]]}), "no tokens"),
        (json!({"prompt": [99999]}), "outside the vocabulary"),
        (json!({"prompt": ["a", [1]]}), "mixes kinds"),
        (json!({"prompt": ""}), "empty"),
        (json!({"prompt": "猫"}), "猫"),
        (
            json!({"prompt": "the", "max_tokens": 99}),
            "maximum context length is 16",
        ),
        (
            json!({"prompt": "the cat likes the rain"}),
            "maximum context length",
        ),
        (
            json!({"prompt": "a".repeat(100_000)}),
            "maximum context length",
        ),
        (json!({"prompt": "the", "max_tokens": 0}), "max_tokens is 0"),
        (
            json!({"prompt": "the", "max_tokens": u64::MAX}),
            "maximum context length",
        ),
        (json!({"prompt": "the", "n": 0}), "from 1 to 512"),
        (
            json!({"prompt": "the", "n": 600, "max_tokens": 1}),
            "from 1 to 512",
        ),
        (json!({"prompt": "the", "logprobs": 1000}), "from 0 to 20"),
        (json!({"prompt": "the", "temperature": -1}), "temperature"),
        (json!({"prompt": "the", "top_p": 0}), "top_p"),
        (json!({"prompt": "the", "stop": ""}), "stop string"),
        (json!({"prompt": "the", "wishes": 3}), "wishes"),
        (
            json!({"prompt": "the", "max_token": 3}),
            "did you mean max_tokens?",
        ),
        (
            json!({"prompt": "the", "max_tokens": "ten"}),
            "max_tokens must be a whole number from 0 to 16, not \"ten\"",
        ),
        (
            json!({"prompt": "the", "echo": 1}),
            "echo must be true or false, not 1",
        ),
        (
            json!({"prompt": "the", "top_k": 0.5}),
            "top_k must be a whole number from 1, not 0.5",
        ),
        (
            json!({"prompt": "the", "stop": [3]}),
            "stop must be a string or a list of strings",
        ),
        (
            json!({"prompt": "the", "stream": "yes"}),
            "stream must be true or false",
        ),
        (
            json!({"prompt": [1, -2]}),
            "prompt must be a string, a list of strings",
        ),
        (json!({"prompt": "the", "suffix": "x"}), "suffix"),
        (json!([1, 2, 3]), "a JSON object"),
        (json!("the"), "a JSON object"),
    ] {
        let message = server.refused(&request, 400);
        assert!(message.contains(part), "{request}: {message}");
        for rust in ["u32", "usize", "i64", "invalid type", "--prompt"] {
            assert!(!message.contains(rust), "{request}: {message}");
        }
    }
    for (path, body, part) in [
        ("/tokenize", "{}", "prompt is missing"),
        (
            "/tokenize",
            r#"{"prompt": 5}"#,
            "prompt must be a string, not 5",
        ),
        (
            "/detokenize",
            r#"{"tokens": ["a"]}"#,
            "tokens must be a list",
        ),
        (
            "/detokenize",
            r#"{"tokens": [1, -1]}"#,
            "from 0 to 4294967295",
        ),
    ] {
        let (status, answer) = server.send("POST", path, body);
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(part), "{body}: {message}");
    }
    let (status, answer) = server.send("POST", "/v1/completions", "{\"prompt\": ");
    assert_eq!(status, 400, "{answer}");
    for (method, path, expected) in [
        ("GET", "/v1/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/chat/completions", 404),
        ("GET", "/", 404),
        ("GET", "/v1/models/", 200),
        ("GET", "/tokenizer_info", 200),
        ("GET", "/health", 200),
    ] {
        let (status, answer) = server.send(method, path, "");
        assert_eq!(status, expected, "{path}: {answer}");
        assert_eq!(answer["error"].is_object(), expected != 200);
    }
    let head = "POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n";
    assert_eq!(server.exchange(head.as_bytes()).0, 413);
    assert_eq!(
        server
            .exchange(b"\x16\x03\x01\x00\xa5 a handshake\r\n\r\n")
            .0,
        400
    );
    let (_, models) = server.send("GET", "/v1/models", "");
    assert_eq!(models["data"][0]["id"], "run");
    let answer = server.complete(&json!({"prompt": "the", "max_tokens": 1}));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

/// Clients that connect and send nothing, or ask and leave, do not keep others from their answers.
#[test]
fn silent_clients_hold_nobody_up() {
    let bench = Bench::trained();
    let server = Serving::start(&bench, &[]);
    let silent: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    for mut stream in (0..10).map(|_| server.connect()) {
        let body = r#"{"prompt": "the", "max_tokens": 14, "n": 50}"#;
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
    }
    let began = Instant::now();
    server.complete(&json!({"prompt": "the", "max_tokens": 4}));
    assert!(began.elapsed() < Duration::from_secs(20));
    // Beyond the limit of connections a client is told so.
    let more: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    let mut response = String::new();
    let mut last = more.last().unwrap();
    last.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    drop((silent, more));
    let began = Instant::now();
    loop {
        let (status, _) = server.send("GET", "/v1/models", "");
        if status == 200 {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_server_and_a_port_in_use_is_refused() {
    let bench = Bench::trained();
    let mut server = Serving::start(&bench, &[]);
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let output = bench.run(&["serve", "run", "--port", &port]);
    assert_refused(&output, 2, &["--port", &port, "choose another"]);
    interrupt(&server.child);
    let began = Instant::now();
    let status = server.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5));
}
