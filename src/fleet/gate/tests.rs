use super::super::outside::server::Server;
use super::*;

fn gate(kind: &str) -> Gate {
    toml::from_str(&format!("name = 'errors'\n{kind}\n")).expect("a gate")
}

fn measured(gate: &Gate) -> Result<Vec<f64>> {
    measure(gate, Some("127.0.0.1:4711".parse().expect("an address")), Some("web-7"))
}

fn refusal(gate: &Gate) -> String {
    measured(gate).expect_err("it refuses").chain()
}

#[test]
fn thresholds() {
    for (limits, samples, expected) in [
        ("max = '0.5'", &[0.25, 0.75][..], Reading::Pass),
        ("max = '0.5'", &[0.5, 1.0], Reading::Fail("the mean 0.75 is above 0.5".to_owned())),
        ("min = '-1'", &[-1.0], Reading::Pass),
        ("min = '2'\nmax = '3'", &[1.0, 2.0], Reading::Fail("the mean 1.5 is below 2".to_owned())),
        ("min = '2'\nmax = '3'", &[2.0, 3.0], Reading::Pass),
        ("max = '1'", &[], Reading::NotYet("0 of the 1 numbers that it needs".to_owned())),
        ("max = '1'\nsamples = 0", &[], Reading::NotYet("0 of the 1 numbers that it needs".to_owned())),
        // Too few are not yet, however bad they are.
        (
            "max = '1'\nsamples = 3",
            &[9.0, 9.0],
            Reading::NotYet("2 of the 3 numbers that it needs".to_owned()),
        ),
        ("max = '1'\nsamples = 3", &[1.0; 3], Reading::Pass),
        ("max = '1'", &[f64::INFINITY, 0.0], Reading::Fail("the mean inf is above 1".to_owned())),
        ("min = '1'", &[f64::INFINITY, f64::NEG_INFINITY], Reading::Fail("the mean is no number".to_owned())),
        ("max = '1'", &[f64::NAN], Reading::Fail("the mean is no number".to_owned())),
    ] {
        assert_eq!(threshold(&gate(limits), samples), Ok(expected), "{limits} {samples:?}");
    }
    for limits in ["compare = 'higher'", "max = 'much'", "min = 'inf'"] {
        assert!(threshold(&gate(limits), &[1.0]).is_err(), "{limits}");
    }
}

#[test]
fn commands() {
    for (command, expected) in [
        ("['printf', '1\\n\\n  2.5e-1 \\n']", vec![1.0, 0.25]),
        ("['true']", vec![]),
        // The words are the program's: no shell sees them.
        (
            "['sh', '-c', 'echo ${#1}; test \"$2\" = web-7 && echo $1 | cut -d: -f2', 'x', '{address}', '{id}']",
            vec![14.0, 4711.0],
        ),
    ] {
        assert_eq!(measured(&gate(&format!("command = {command}"))).expect(command), expected, "{command}");
    }
    for (command, expected) in [
        (
            "['printf', '1\\n2 ms\\n']",
            "measuring gate errors of web-7: line 2 of the answer is no number: \"2 ms\"",
        ),
        ("['echo', 'NaN']", "line 1 of the answer is no number: \"NaN\""),
        ("['sh', '-c', 'echo down >&2; exit 2']", "ended with exit status: 2:\ndown"),
        ("['sleep', '60']\ntimeout = '100ms'", "was not done after 100ms and was killed"),
        ("['true']\nhttp = 'http://h/'", "not exactly one of"),
    ] {
        let refused = refusal(&gate(&format!("command = {command}")));
        assert!(refused.contains(expected), "{refused}");
    }
    let gate = gate("command = ['echo', '{address}']");
    let error = measure(&gate, None, None).expect_err("nobody's address");
    assert!(error.chain().contains("nothing to fill in for `{address}`"), "{error:?}");
}

#[test]
fn urls() {
    let server = Server::answering(&[(200, "3\n4"), (200, "<html>"), (503, "1")]);
    let gate = gate(&format!("http = '{}/stats/{{id}}?of={{address}}'", server.url("")));
    assert_eq!(measured(&gate).expect("it answers"), [3.0, 4.0]);
    assert!(refusal(&gate).contains("line 1 of the answer is no number: \"<html>\""));
    assert!(refusal(&gate).contains("answered with HTTP status 503"));
    assert!(server.heard()[0].starts_with("GET /stats/web-7?of=127.0.0.1:4711 HTTP"));
    // The instance itself is asked.
    let server = Server::answering(&[(200, "5")]);
    let gate = self::gate("http = 'http://{address}/stats'");
    assert_eq!(measure(&gate, Some(server.address()), None).expect("it answers"), [5.0]);
}

#[test]
fn prometheus() {
    let success = |data: &str| format!(r#"{{"status":"success","data":{data},"warnings":["w"]}}"#);
    let vector =
        |values: &str| success(&format!(r#"{{"resultType":"vector","result":[{values}],"stats":{{}}}}"#));
    let series = |value: &str| format!(r#"{{"metric":{{"a":"b"}},"value":[1435781451.781,"{value}"]}}"#);
    let all = ["1", "0.5", "NaN", "+Inf", "1e+06"].map(series).join(",");
    let histogram = r#"{"metric":{},"histogram":[1,{"count":"1"}]}"#;
    let error = r#"{"status":"error","errorType":"bad_data","error":"parse error: unclosed left brace"}"#;
    for (status, body, expected) in [
        (200, vector(&all), Ok(vec![1.0, 0.5, f64::INFINITY, 1e6])),
        (200, vector(""), Ok(vec![])),
        (200, success(r#"{"resultType":"scalar","result":[1435781451,"3"]}"#), Ok(vec![3.0])),
        (200, success(r#"{"resultType":"scalar","result":[1435781451,"NaN"]}"#), Ok(vec![])),
        (200, vector(histogram), Err("gives histograms")),
        (200, success(r#"{"resultType":"matrix","result":[]}"#), Err("gives ranges")),
        (200, success(r#"{"resultType":"string","result":[1,"x"]}"#), Err("gives a text")),
        (200, vector(&series("x")), Err("reading \"x\" as a number")),
        (400, error.to_owned(), Err("answered with an error, bad_data: parse error: unclosed left brace")),
        (200, error.to_owned(), Err("answered with an error, bad_data: parse error: unclosed left brace")),
        (502, "<html>".to_owned(), Err("answered with HTTP status 502")),
        (502, vector("1"), Err("answered with HTTP status 502")),
        (200, "<html>".to_owned(), Err("reading it as one of Prometheus")),
    ] {
        let server = Server::answering(&[(status, &body)]);
        let gate = gate(&format!(
            "prometheus = {{ server = '{}', query = 'rate(e{{instance=\"{{address}}\"}}[5m]) > 0' }}",
            server.url("/")
        ));
        match expected {
            Ok(numbers) => assert_eq!(measured(&gate).expect(&body), numbers, "{body}"),
            Err(words) => assert!(refusal(&gate).contains(words), "{body}"),
        }
        let query = "rate%28e%7Binstance%3D%22127.0.0.1%3A4711%22%7D%5B5m%5D%29%20%3E%200";
        assert!(server.heard()[0].starts_with(&format!("GET /api/v1/query?query={query} HTTP")), "{body}");
    }
}
