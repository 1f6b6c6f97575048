use deliver::EntryBody;

use super::*;
use crate::authority::ConfigMap;
use crate::testing::{Server, response};

const RESPONSE: &str = r#"{"revision":"r1","files":[{"path":"password","mode":"0440","version":"v","value":"aHVudGVyMg=="}],"objects":[{"name":"db","generation":3,"version":"v"}]}"#;

fn request() -> RequestBody {
    let entry = EntryBody {
        sealed_secret: Some("db".into()),
        ..EntryBody::default()
    };
    RequestBody {
        objects: vec![entry],
        ..RequestBody::default()
    }
}

fn deliver(server: &Server) -> Result<Delivery, ClientError> {
    Client::new(server.settings()).unwrap().deliver(&request())
}

fn value(delivery: Result<Delivery, ClientError>) -> Vec<u8> {
    match delivery {
        Ok(Delivery::Values(response)) => response.files[0].value.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn sends_the_token_and_returns_the_values() {
    let server = Server::start(vec![response("200 OK", RESPONSE)]);
    assert_eq!(value(deliver(&server)), b"hunter2");
    let request = server.requests.recv().unwrap();
    assert!(
        request.starts_with("POST /v1/deliver HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request
            .to_lowercase()
            .contains("authorization: bearer first.token\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with(r#"{"objects":[{"sealedSecret":"db"}]}"#),
        "{request}"
    );
}

/// Attack: a machine in the middle responds in place of the controller, to receive the token.
#[test]
fn sends_nothing_to_a_server_with_a_certificate_of_another_ca() {
    let server = Server::start(vec![response("200 OK", RESPONSE)]);
    server.renew();
    let error = deliver(&server).unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(server.requests.try_recv().is_err(), "no request was sent");
}

/// Attack: a machine in the middle has a certificate of the same CA for another name.
#[test]
fn sends_nothing_to_a_server_with_another_name() {
    let server = Server::start(vec![response("200 OK", RESPONSE)]);
    let mut settings = server.settings();
    settings.server = format!("https://127.0.0.1:{}", server.port);
    let error = Client::new(settings)
        .unwrap()
        .deliver(&request())
        .unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    assert!(server.requests.try_recv().is_err(), "no request was sent");
}

/// Fault: the controller restarts with another CA, and the kubelet updates the mounted file later.
#[test]
fn reads_the_ca_certificates_again_for_each_request() {
    let server = Server::start(vec![
        response("200 OK", RESPONSE),
        response("200 OK", RESPONSE),
    ]);
    let mut client = Client::new(server.settings()).unwrap();
    assert_eq!(value(client.deliver(&request())), b"hunter2");
    let new = server.renew();
    assert!(client.deliver(&request()).is_err(), "the CA is unknown");
    server.write("ca.pem", &new);
    assert_eq!(value(client.deliver(&request())), b"hunter2");
}

#[test]
fn reads_the_ca_certificates_from_the_config_map_with_the_account_of_the_pod() {
    let api_server = Server::start(Vec::new());
    let controller = Server::start(vec![
        response("200 OK", RESPONSE),
        response("200 OK", RESPONSE),
    ]);
    let config_map = |ca: &str| {
        let data = serde_json::json!({ "data": { "ca.pem": ca } });
        response("200 OK", &data.to_string())
    };
    let ca = std::fs::read_to_string(controller.path("ca.pem")).unwrap();
    api_server.write(
        "ca.crt",
        &std::fs::read_to_string(api_server.path("ca.pem")).unwrap(),
    );
    api_server.write("token", "account.token");
    api_server.respond(config_map(&ca));
    let mut settings = controller.settings();
    settings.authority = Authority::ConfigMap(ConfigMap {
        api_server: format!("https://localhost:{}", api_server.port),
        account: api_server.directory.path().to_owned(),
        namespace: "kube-system".into(),
        name: "c-certificate".into(),
    });
    let mut client = Client::new(settings).unwrap();
    assert_eq!(value(client.deliver(&request())), b"hunter2");
    let head = api_server.requests.recv().unwrap().to_lowercase();
    assert!(
        head.starts_with(
            "get /api/v1/namespaces/kube-system/configmaps/c-certificate http/1.1\r\n"
        ),
        "{head}"
    );
    assert!(
        head.contains("authorization: bearer account.token\r\n"),
        "{head}"
    );

    let new = controller.renew();
    assert!(client.deliver(&request()).is_err(), "the CA is unknown");
    api_server.respond(config_map(&new));
    assert_eq!(
        value(client.deliver(&request())),
        b"hunter2",
        "the ConfigMap was read again"
    );
}

#[test]
fn reads_the_token_again_for_each_request() {
    let server = Server::start(vec![
        response("304 Not Modified", ""),
        response("304 Not Modified", ""),
    ]);
    let mut client = Client::new(server.settings()).unwrap();
    assert!(matches!(
        client.deliver(&request()),
        Ok(Delivery::Unchanged)
    ));
    server.write("token", "second.token\n");
    assert!(matches!(
        client.deliver(&request()),
        Ok(Delivery::Unchanged)
    ));
    for token in ["first.token", "second.token"] {
        let head = server.requests.recv().unwrap().to_lowercase();
        assert!(
            head.contains(&format!("authorization: bearer {token}\r\n")),
            "{head}"
        );
    }
}

#[test]
fn shows_the_error_and_hint_of_the_controller() {
    let body = r#"{"error":"the item does not open","hint":"check it","sealedSecret":"db","item":"password"}"#;
    let server = Server::start(vec![
        response("422 Unprocessable Content", body),
        response("403 Forbidden", "<html>"),
        b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".to_vec(),
        response("401 Unauthorized", r#"{"error":"a\nb"}"#),
    ]);
    let refused = || match deliver(&server) {
        Err(ClientError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let text = "db, item password: the item does not open\nhint: check it";
    assert_eq!(refused().to_string(), text);
    assert_eq!(
        refused().to_string(),
        "the controller responded with 403 Forbidden"
    );
    assert_eq!(refused().retry_after, Some(Duration::from_secs(7)));
    assert_eq!(refused().to_string(), "a b", "one line");
}

/// Attack: a server in place of the controller sends an endless response, to fill the memory.
#[test]
fn refuses_a_response_above_the_limit() {
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(MAX_RESPONSE + 100_000, b' ');
    let body = "x".repeat(MAX_RESPONSE + 1);
    let server = Server::start(vec![endless, response("200 OK", &body)]);
    for _ in 0..2 {
        let error = deliver(&server).unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error}");
    }
}

/// Attack: a server in place of the controller sends files for other directories.
#[test]
fn refuses_paths_outside_of_the_directory() {
    for path in ["../x", "/etc/x", "..data/x"] {
        let server = Server::start(vec![response(
            "200 OK",
            &RESPONSE.replace("password", path),
        )]);
        let error = deliver(&server).unwrap_err();
        assert!(matches!(error, ClientError::Response(_)), "{error}");
        assert!(!error.to_string().contains("aHVudGVyMg"), "{error}");
    }
}

/// Attack: a server sends its response one byte at a time, to keep an agent waiting forever.
#[test]
fn ends_a_request_at_its_time_limit() {
    let server = Server::start(Vec::new());
    let ca = std::fs::read(server.path("ca.pem")).unwrap();
    let agent = agent(&certificates(&ca).unwrap(), Duration::from_millis(300));
    server.respond_slowly();
    let start = std::time::Instant::now();
    let response = agent
        .get(format!("https://localhost:{}/", server.port))
        .call();
    let result = response.and_then(|mut response| response.body_mut().read_to_vec());
    assert!(matches!(result, Err(ureq::Error::Timeout(_))), "{result:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn reports_invalid_settings_when_a_client_is_created() {
    let server = Server::start(Vec::new());
    let new = |change: &dyn Fn(&mut Settings)| {
        let mut settings = server.settings();
        change(&mut settings);
        Client::new(settings).unwrap_err().to_string()
    };
    assert!(new(&|settings| settings.server = "http://x".into()).contains("https://"));
    assert!(
        new(&|settings| settings.token_file = "/no/token".into()).contains("cannot read /no/token")
    );
    assert!(
        new(&|settings| settings.authority = Authority::File("/no/ca".into())).contains("/no/ca")
    );
    for token in ["", " \n", "a b", "a\r\nX: y"] {
        server.write("token", token);
        assert!(new(&|_| ()).contains("no valid token"), "{token:?}");
    }
    server.write("ca.pem", "no PEM");
    assert!(new(&|_| ()).contains("no valid PEM certificate"));
}
