//! Tests of the cost of clients: memory of answers, clients that leave, and a server that is stopped.

use super::*;

/// Overrides of a model whose requests take a while.
const LONG: [&str; 4] = [
    "--set",
    "model.context=256",
    "--set",
    "data.world.valid_bytes=20000",
];

/// Returns a bench with a run in `run` whose context has 256 tokens.
fn long() -> Bench {
    let bench = Bench::new();
    bench.tiny_run("run", &LONG);
    bench
}

impl Serving {
    /// Sends a request for completions, and returns the connection before an answer.
    fn ask(&self, request: &Value) -> TcpStream {
        let body = request.to_string();
        let mut stream = self.connect();
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        stream
    }

    /// Returns the peak of the process's memory in bytes.
    #[cfg(target_os = "linux")]
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<u64>().unwrap() << 10
    }
}

/// Reads a whole response; an error if the connection ends within it.
fn response(mut stream: TcpStream) -> Option<(u16, String, Value)> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head[9..12].parse().ok()?;
    Some((status, head.into(), serde_json::from_str(body).ok()?))
}

const MIB: u64 = 1 << 20;

#[cfg(target_os = "linux")]
#[test]
fn answers_of_many_clients_stay_within_their_memory() {
    let bench = long();
    let server = Serving::start(&bench, &["--answer-memory", "24", "--batch", "64"]);
    // One prompt of a few tokens, so that buffers of the computation exist before memory is measured.
    let large = |n: usize| json!({"prompt": "the cat ", "max_tokens": 200, "n": n, "echo": true, "logprobs": 20, "seed": 1});
    server.complete(&large(8));
    let message = server.refused(&large(512), 400);
    for part in [
        "--answer-memory",
        "24 MiB",
        "lower max_tokens, n or logprobs",
    ] {
        assert!(message.contains(part), "{message}");
    }

    let before = server.peak();
    let clients: Vec<TcpStream> = (0..60).map(|_| server.ask(&large(64))).collect();
    let responses: Vec<_> = clients
        .into_iter()
        .map(|client| response(client).unwrap())
        .collect();
    let grown = (server.peak() - before) / MIB;
    let mut answered = 0;
    for (status, head, body) in &responses {
        match status {
            200 => {
                let choices = body["choices"].as_array().unwrap();
                assert_eq!(choices.len(), 64);
                answered += 1;
            }
            _ => {
                assert_eq!(*status, 503, "{body}");
                assert!(head.contains("retry-after: 1"), "{head}");
                let message = body["error"]["message"].as_str().unwrap();
                assert!(message.contains("--answer-memory"), "{message}");
            }
        }
    }
    assert!((1..60).contains(&answered), "{answered}");
    // Beside the answers there are stacks, and what the allocator keeps.
    assert!(grown < 24 + 40, "{grown} MiB for {answered} answers");
    // All memory is free again.
    server.complete(&large(64));
}

#[test]
fn work_for_clients_that_have_left_is_given_up() {
    let bench = long();
    let server = Serving::start(&bench, &["--batch", "2"]);
    let heavy = json!({"prompt": "the cat ", "max_tokens": 240, "n": 24});
    let light = json!({"prompt": "the", "max_tokens": 2});
    server.complete(&light);
    let began = Instant::now();
    server.complete(&heavy);
    let alone = began.elapsed();

    // As many clients as may be connected ask for much, and leave.
    let clients: Vec<TcpStream> = (0..64).map(|_| server.ask(&heavy)).collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(clients);
    let began = Instant::now();
    let (mut status, mut answer);
    loop {
        (status, _, answer) = response(server.ask(&light)).unwrap();
        if status == 200 || began.elapsed() > alone {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let took = began.elapsed();
    assert_eq!(status, 200, "{answer}");
    assert!(took < alone, "{took:?}, a request alone {alone:?}");

    // A client that has sent its next request and leaves is noticed too.
    let mut client = server.ask(&heavy);
    client.write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
    drop(client);
    // And a client that stays is answered, whoever leaves beside it.
    let stays = server.ask(&json!({"prompt": "the", "max_tokens": 40, "seed": 1}));
    let leaves = server.ask(&heavy);
    drop(leaves);
    let (status, _, answer) = response(stays).unwrap();
    assert_eq!(status, 200);
    assert_eq!(answer["usage"]["completion_tokens"], 40);
}

/// A request under way is answered or refused, however long a step of the computation takes.
#[cfg(unix)]
#[test]
fn a_server_that_is_stopped_answers_or_refuses_and_exits_with_success() {
    let bench = long();
    let text = "the cat likes the rain. ".repeat(11);
    let prompt = &text[..250];
    let heavy = json!({"prompt": prompt, "max_tokens": 6, "n": 512});
    for (signal, after) in [("-INT", 0), ("-TERM", 20), ("-INT", 100), ("-TERM", 400)] {
        let mut server = Serving::start(&bench, &["--batch", "1024"]);
        let clients: Vec<TcpStream> = (0..3).map(|_| server.ask(&heavy)).collect();
        std::thread::sleep(Duration::from_millis(after));
        let pid = server.child.id().to_string();
        let kill = Command::new("kill").args([signal, &pid]).status();
        assert!(kill.unwrap().success());
        let began = Instant::now();
        let status = server.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{signal} after {after} ms");
        assert!(began.elapsed() < Duration::from_secs(5));
        for client in clients {
            // A request that had not been read when the process ended has no response.
            if let Some((status, _, body)) = response(client) {
                assert!(status == 200 || status == 503, "{status}: {body}");
            }
        }
    }
}
