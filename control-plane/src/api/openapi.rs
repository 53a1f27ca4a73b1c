//! The OpenAPI document, served by the program itself.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crossfade::control::wire::{Counters, SyncRequest};
    use serde::Serialize;
    use serde_json::Value;

    use super::{super::routes, DOCUMENT};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn document_and_routes_name_the_same_calls() {
        let document = document();
        let documented: BTreeSet<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, calls)| {
                let methods = calls.as_object().unwrap().keys();
                let methods = methods.filter(|key| *key != "parameters");
                methods.map(move |method| (path.clone(), method.clone()))
            })
            .collect();
        let routed: BTreeSet<(String, String)> = routes::table()
            .into_iter()
            .map(|(path, method, _)| (path.to_owned(), method.to_owned()))
            .collect();
        assert_eq!(documented, routed);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut open = vec![&document];
        let mut seen = 0;
        while let Some(value) = open.pop() {
            if let Some(target) = value.get("$ref").and_then(Value::as_str) {
                let pointer = target.strip_prefix('#').unwrap();
                assert!(document.pointer(pointer).is_some(), "{target}");
                seen += 1;
            }
            match value {
                Value::Array(list) => open.extend(list),
                Value::Object(map) => open.extend(map.values()),
                _ => {}
            }
        }
        assert!(seen > 10);
    }

    /// The fields of a value that writes all of them, and those of its schema.
    fn fields(value: &impl Serialize, schema: &str) -> [BTreeSet<String>; 2] {
        let written = serde_json::to_value(value).unwrap();
        let document = document();
        let described = &document["components"]["schemas"][schema]["properties"];
        [&written, described].map(|map| map.as_object().unwrap().keys().cloned().collect())
    }

    #[test]
    fn schemas_have_every_field_that_an_instance_sends() {
        let [written, described] = fields(&SyncRequest::default(), "SyncRequest");
        assert_eq!(written, described);
        let [written, described] = fields(&Counters::default(), "Counters");
        assert_eq!(written, described);
    }
}
