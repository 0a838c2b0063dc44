use serde_json::{Value, json};

use super::*;

fn heard(name: &str, labels: &[(&str, &str)], firing: bool, summary: Option<&str>) -> Heard {
    let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
    Heard { name: name.to_owned(), labels, firing, summary: summary.map(str::to_owned) }
}

/// A message as Alertmanager writes it, with these alerts.
fn message(alerts: &Value) -> Value {
    json!({
        "receiver": "rekiln", "status": "firing", "alerts": alerts, "groupLabels": {"alertname": "Errors"},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am:9093", "version": "4",
        "groupKey": "{}:{alertname=\"Errors\"}", "truncatedAlerts": 0
    })
}

fn alert(status: &str, labels: &Value, annotations: &Value) -> Value {
    json!({
        "status": status, "labels": labels, "annotations": annotations, "startsAt": "2026-11-29T13:08:45.828Z",
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://p:9090/graph", "fingerprint": "1a30ba71cca2921f"
    })
}

#[test]
fn messages_of_alertmanager() {
    let labels = json!({"alertname": "Errors", "instance": "10.0.0.7:9100", "severity": "page"});
    let both = json!({"summary": " too\nmany \u{1b}[31merrors", "description": "long"});
    let kept = [("instance", "10.0.0.7:9100"), ("severity", "page")];
    for (alerts, expected) in [
        (json!([]), vec![]),
        (
            json!([
                alert("firing", &labels, &both),
                alert("resolved", &labels, &json!({"description": "d"}))
            ]),
            vec![
                heard("Errors", &kept, true, Some("too many  [31merrors")),
                heard("Errors", &kept, false, Some("d")),
            ],
        ),
        (
            json!([alert("firing", &json!({"job": "x"}), &json!({"summary": " "}))]),
            vec![heard("", &[("job", "x")], true, None)],
        ),
        (json!([alert("firing", &Value::Null, &Value::Null)]), vec![heard("", &[], true, None)]),
    ] {
        assert_eq!(alertmanager(message(&alerts).to_string().as_bytes()).expect("read"), expected);
    }
}

#[test]
fn what_is_no_message_of_alertmanager() {
    let mut grafana = message(&json!([]));
    grafana["version"] = "1".into();
    let mut number = message(&json!([]));
    number["version"] = 4.into();
    let one = alert("firing", &json!({"alertname": "Errors"}), &json!({}));
    let many: serde_json::Map<_, _> = (0..101).map(|at| (format!("l{at}"), "x".into())).collect();
    for (body, expected) in [
        (String::new(), "reading a message as JSON"),
        ("[]".to_owned(), "version is none"),
        ("{}".to_owned(), "version is none"),
        (grafana.to_string(), "version is \"1\", and \"4\" of Alertmanager's webhook is understood"),
        (number.to_string(), "version is 4, and"),
        (message(&json!([alert("pending", &json!({}), &json!({}))])).to_string(), "status is `pending`"),
        (message(&json!([{"labels": {}}])).to_string(), "missing field `status`"),
        (message(&json!([alert("firing", &json!({"a": 1}), &json!({}))])).to_string(), "invalid type"),
        (message(&json!(vec![one; 1001])).to_string(), "there are 1001 alerts in one message"),
        (message(&json!([alert("firing", &many.into(), &json!({}))])).to_string(), "more than 100 labels"),
        (
            message(&json!([alert("firing", &json!({"x".repeat(1025): "y"}), &json!({}))])).to_string(),
            "a label whose name has 1025 bytes",
        ),
    ] {
        let error = alertmanager(body.as_bytes()).expect_err(expected).chain();
        assert!(error.contains(expected), "{error}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(alertmanager(deep.as_bytes()).is_err() && cloudwatch(deep.as_bytes()).is_err());
}

#[test]
fn long_texts_are_cut_and_are_then_nobodys() {
    for (text, expected) in [
        ("x".repeat(1024), "x".repeat(1024)),
        ("x".repeat(1025), format!("{}…", "x".repeat(1021))),
        ("é".repeat(600), format!("{}…", "é".repeat(510))),
    ] {
        let labels = json!({"alertname": text, "instance": text});
        let body = message(&json!([alert("firing", &labels, &json!({"summary": text}))]));
        let heard = &alertmanager(body.to_string().as_bytes()).expect("read")[0];
        assert_eq!(
            (&heard.name, &heard.labels["instance"], heard.summary.as_ref()),
            (&expected, &expected, Some(&expected))
        );
    }
}

#[test]
fn keys_are_of_the_alert_and_not_of_its_state() {
    let key = |name: &str, labels: &[(&str, &str)]| heard(name, labels, true, None).key();
    let errors = key("Errors", &[("a", "1"), ("b", "2")]);
    assert_eq!(errors, heard("Errors", &[("b", "2"), ("a", "1")], false, Some("x")).key());
    // It is in journals: another one would part what is open from what is resolved.
    assert_eq!(errors, "ecc078cd1c7c");
    for other in [
        key("Errors", &[("a", "1")]),
        key("Errors", &[("a", "2"), ("b", "1")]),
        key("Errors", &[("a", "11:b1:2")]),
        key("Error", &[("s", "1"), ("b", "2")]),
        key("Errors", &[]),
    ] {
        assert_ne!(errors, other);
    }
}

/// A message of SNS around a text.
fn sns(message: &str) -> Value {
    json!({
        "Type": "Notification", "MessageId": "da41e39f", "TopicArn": "arn:aws:sns:us-east-1:111122223333:t",
        "Subject": "ALARM: \"Errors\"", "Message": message, "Timestamp": "2026-11-29T13:08:45.828Z",
        "SignatureVersion": "1", "Signature": "x", "SigningCertURL": "https://sns.us-east-1.amazonaws.com/x.pem",
        "UnsubscribeURL": "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe"
    })
}

/// An alarm as SNS brings it.
fn alarm(state: &str, trigger: &Value) -> Value {
    json!({
        "AlarmName": "Errors", "AlarmDescription": null, "AWSAccountId": "111122223333", "NewStateValue": state,
        "NewStateReason": "Threshold\nCrossed", "StateChangeTime": "2026-11-29T13:08:45.828+0000",
        "Region": "US East (N. Virginia)", "OldStateValue": "OK", "OKActions": [], "Trigger": trigger
    })
}

/// An event of `EventBridge`.
fn event(state: &str, metrics: &Value) -> Value {
    json!({
        "version": "0", "id": "c4c1c1c9", "detail-type": "CloudWatch Alarm State Change", "source": "aws.cloudwatch",
        "account": "111122223333", "time": "2026-11-29T13:08:45Z", "region": "us-east-1",
        "resources": ["arn:aws:cloudwatch:us-east-1:111122223333:alarm:Errors"],
        "detail": {
            "alarmName": "Errors", "configuration": {"description": "x", "metrics": metrics},
            "previousState": {"value": "OK"},
            "state": {"reason": "Threshold Crossed", "reasonData": "{}", "timestamp": "x", "value": state}
        }
    })
}

#[test]
fn alarms_of_cloudwatch() {
    let summary = Some("Threshold Crossed");
    let on = |labels: &[(&str, &str)]| Aws::Heard(vec![heard("Errors", labels, true, summary)]);
    let small = json!([{"value": "i-0abc", "name": "InstanceId"}, {"value": "web", "name": "Group"}]);
    let capitals = json!([{"Value": "i-0abc", "Name": "InstanceId"}]);
    let stat = |dimensions: &Value| json!({"Id": "m", "MetricStat": {"Metric": {"Dimensions": dimensions}, "Period": 60}});
    let sum = json!({"Expression": "m1/m2", "Id": "e", "ReturnData": true});
    let other = json!([{"value": "i-0def", "name": "InstanceId"}, {"value": "web", "name": "Group"}]);
    let metric = |dimensions: &Value| json!({"id": "m", "metricStat": {"metric": {"dimensions": dimensions, "name": "x"}}});
    let dimensions = json!({"InstanceId": "i-0abc"});
    let expected = on(&[("InstanceId", "i-0abc"), ("Group", "web")]);
    for (name, message, expected) in [
        ("small letters", alarm("ALARM", &json!({"MetricName": "x", "Dimensions": small})), expected.clone()),
        ("capitals", alarm("ALARM", &json!({"Dimensions": capitals})), on(&[("InstanceId", "i-0abc")])),
        ("reckoned", alarm("ALARM", &json!({"Metrics": [sum, stat(&small), stat(&capitals)]})), expected),
        (
            "two instances",
            alarm("ALARM", &json!({"Metrics": [stat(&small), stat(&other)]})),
            on(&[("Group", "web")]),
        ),
        ("of alarms", alarm("ALARM", &Value::Null), on(&[])),
        ("event", event("ALARM", &json!([metric(&dimensions)])), on(&[("InstanceId", "i-0abc")])),
        (
            "reckoned event",
            event("ALARM", &json!([{"id": "e", "expression": "m*2"}, metric(&dimensions)])),
            on(&[("InstanceId", "i-0abc")]),
        ),
        ("event of alarms", event("ALARM", &Value::Null), on(&[])),
    ] {
        // By SNS, and as it is.
        let text = message.to_string();
        assert_eq!(cloudwatch(sns(&text).to_string().as_bytes()).expect(name), expected, "{name}");
        assert_eq!(cloudwatch(text.as_bytes()).expect(name), expected, "{name}");
    }
}

#[test]
fn states_of_alarms() {
    let trigger = json!({"Dimensions": []});
    for (state, expected) in [
        ("ALARM", Some(Some(true))),
        ("OK", Some(Some(false))),
        ("INSUFFICIENT_DATA", Some(None)),
        ("Alarm", None),
    ] {
        for text in [alarm(state, &trigger).to_string(), event(state, &json!([])).to_string()] {
            let said = cloudwatch(sns(&text).to_string().as_bytes()).ok().map(|said| match said {
                Aws::Heard(heard) => Some(heard[0].firing),
                _ => None,
            });
            assert_eq!(said, expected, "{state}");
        }
    }
}

#[test]
fn what_else_aws_sends() {
    let mut contributor = event("ALARM", &json!([]));
    contributor["detail-type"] = "CloudWatch Alarm Contributor State Change".into();
    for (body, expected) in [
        (sns("hello"), Ok("a notification that is no alarm")),
        (sns("{\"source\": \"aws.ec2\"}"), Ok("a notification that is no alarm")),
        (json!({"Type": "UnsubscribeConfirmation"}), Ok("a subscription was ended")),
        (contributor, Ok("an event about CloudWatch Alarm Contributor State Change, and no alarm's state")),
        (json!({"Type": "Other\u{7}"}), Err("SNS has no messages of type `Other `")),
        (json!({"source": "aws.ec2"}), Err("neither a message of SNS nor an event")),
        (json!([1]), Err("neither a message of SNS nor an event")),
        (json!({"AlarmName": 1, "NewStateValue": "OK"}), Err("reading an alarm")),
        (sns("{\"AlarmName\": 1, \"NewStateValue\": \"OK\"}"), Err("reading an alarm")),
    ] {
        match (cloudwatch(body.to_string().as_bytes()), expected) {
            (Ok(said), Ok(expected)) => assert_eq!(said, Aws::Nothing(expected.to_owned())),
            (Err(error), Err(expected)) => assert!(error.chain().contains(expected), "{error:?}"),
            (said, _) => panic!("{body}: {said:?}"),
        }
    }
}

#[test]
fn only_sns_is_asked() {
    let query = "Action=ConfirmSubscription&TopicArn=arn:aws:sns:us-east-1:111122223333:t&Token=2336secret";
    let confirm = |url: &str| {
        cloudwatch(json!({"Type": "SubscriptionConfirmation", "SubscribeURL": url}).to_string().as_bytes())
    };
    for host in ["sns.us-east-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"] {
        let url = format!("https://{host}/?{query}");
        assert_eq!(confirm(&url).expect("it is SNS"), Aws::Confirm(url.clone()));
    }
    for host in [
        "sns.us-east-1.amazonaws.com.evil.example",
        "sns.evil.example",
        "evil.example/sns.us-east-1.amazonaws.com",
        "user@sns.us-east-1.amazonaws.com",
        "evil.example@sns.us-east-1.amazonaws.com",
        "sns.us-east-1.amazonaws.com@evil.example",
        "sns.us-east-1.amazonaws.com\\@evil.example",
        "sns.us-east-1.amazonaws.com:8443",
        "sns..amazonaws.com",
        "sns.a.b.amazonaws.com",
        "SNS.us-east-1.amazonaws.com",
        "sns.us-east-1.amazonaws.com.",
        "sns.us-east-1.amazonaws.comx",
        "sns.us-east-1.amazonaws.org",
        "sqs.us-east-1.amazonaws.com",
        "xsns.us-east-1.amazonaws.com",
        "169.254.169.254",
        "",
    ] {
        let error = confirm(&format!("https://{host}/?{query}")).expect_err(host);
        assert!(error.chain().contains("not one of SNS") && !error.chain().contains("secret"), "{error:?}");
    }
    let host = "sns.us-east-1.amazonaws.com";
    for url in [
        format!("http://{host}/?{query}"),
        format!("HTTPS://{host}/?{query}"),
        format!(" https://{host}/?{query}"),
        format!("https://{host}/?{query}\n"),
        format!("https://{host}/?{query} x"),
        format!("https://{host}/?Action=Publish&x=Action=ConfirmSubscription"),
        format!("https://{host}/x.pem"),
        format!("file://{host}/?{query}"),
        String::new(),
    ] {
        assert!(confirm(&url).is_err(), "{url}");
    }
    assert!(cloudwatch(b"{\"Type\": \"SubscriptionConfirmation\"}").is_err());
}
