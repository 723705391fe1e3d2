//! Tools out of OpenAPI documents.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "these are tests"
)]

mod common;

use adjutant_core::{Effect, RunId};
use adjutant_tools::{
    Caller, HttpClient, HttpOptions, OpenApiOptions, OpenApiSource, Reply, Result, ToolFilter,
    ToolRegistry, ToolSet,
};
use common::{Service, json as ok};
use serde_json::{Value, json};
use std::sync::Arc;

fn document() -> Value {
    json!({
        "openapi": "3.0.3",
        "servers": [{ "url": "https://{where}.example.com/v1/", "variables": { "where": { "default": "api" } } }],
        "paths": {
            "/pets/{petId}": {
                "parameters": [{ "$ref": "#/components/parameters/PetId" }],
                "get": {
                    "operationId": "getPet",
                    "summary": "One pet",
                    "parameters": [
                        { "name": "fields", "in": "query", "explode": false,
                          "schema": { "type": "array", "items": { "type": "string" } } },
                        { "name": "tag", "in": "query", "schema": { "type": "array", "items": { "type": "string" } } },
                        { "name": "X-Trace", "in": "header", "schema": { "type": "string" } },
                        { "name": "Authorization", "in": "header", "schema": { "type": "string" } },
                    ],
                },
                "put": {
                    "operationId": "replace pet",
                    "requestBody": { "required": true, "content": { "application/json": {
                        "schema": { "$ref": "#/components/schemas/Pet" } } } },
                },
                "delete": {},
            },
            "/upload": { "post": {
                "operationId": "upload",
                "requestBody": { "content": { "multipart/form-data": { "schema": {} } } },
            } },
            "/remote": { "get": {
                "operationId": "remote",
                "parameters": [{ "name": "q", "in": "query", "schema": { "$ref": "https://evil.example/x.json" } }],
            } },
        },
        "components": {
            "parameters": { "PetId": { "name": "petId", "in": "path", "required": true,
                "description": "Which", "schema": { "type": "integer", "minimum": 0, "exclusiveMinimum": true } } },
            "schemas": { "Pet": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": { "type": "string", "nullable": true, "example": "Rex" },
                    "example": { "type": "string" },
                    "parents": { "type": "array", "items": { "$ref": "#/components/schemas/Pet" } },
                },
            } },
        },
    })
}

fn source(document: Value, options: &OpenApiOptions) -> Result<OpenApiSource> {
    let client = HttpClient::new(&HttpOptions {
        allow_private: vec!["127.0.0.1".into()],
        ..HttpOptions::default()
    });
    OpenApiSource::new("pets", document, client.unwrap(), options)
}

async fn tools(source: OpenApiSource) -> ToolSet {
    let registry = ToolRegistry::builder().source(Arc::new(source)).build();
    let caller = Caller::new("a", RunId::new());
    registry
        .unwrap()
        .open(caller, &ToolFilter::all())
        .await
        .unwrap()
}

async fn call(tools: &ToolSet, name: &str, arguments: Value) -> Result<Reply> {
    let arguments = arguments.into();
    tools
        .call(adjutant_tools::Invocation::new(name, &arguments, "key"))
        .await
}

#[tokio::test]
async fn every_operation_is_a_tool_with_the_effect_of_its_method() {
    let tools = tools(source(document(), &OpenApiOptions::default()).unwrap()).await;
    let found: Vec<_> = tools
        .specs()
        .into_iter()
        .map(|spec| (spec.name, spec.effect))
        .collect();
    let wanted = [
        ("pets__getPet", Effect::ReadOnly),
        ("pets__replace_pet", Effect::Idempotent),
        ("pets__delete_pets_petId", Effect::Idempotent),
    ];
    assert_eq!(
        found,
        wanted.map(|(name, effect)| (name.to_owned(), effect))
    );
    assert_eq!(tools.find("pets__getPet").unwrap().description, "One pet");
}

#[test]
fn what_cannot_be_a_tool_is_skipped_and_says_why() {
    let source = source(document(), &OpenApiOptions::default()).unwrap();
    let skipped: Vec<_> = source
        .skipped()
        .iter()
        .map(|(name, why)| format!("{name}: {why}"))
        .collect();
    assert!(
        skipped[0].contains("POST /upload") && skipped[0].contains("multipart"),
        "{skipped:?}"
    );
    assert!(skipped[1].contains("GET /remote") && skipped[1].contains("out of the document"));
}

#[tokio::test]
async fn schemas_stand_alone_in_the_words_of_json_schema() {
    let tools = tools(source(document(), &OpenApiOptions::default()).unwrap()).await;
    let schema: Value = tools
        .find("pets__replace_pet")
        .unwrap()
        .input_schema
        .to()
        .unwrap();
    assert_eq!(schema["required"], json!(["petId", "body"]));
    let id = json!({ "type": "integer", "exclusiveMinimum": 0, "description": "Which" });
    assert_eq!(schema["properties"]["petId"], id);
    assert_eq!(schema["properties"]["body"]["$ref"], "#/$defs/Pet");
    let pet = &schema["$defs"]["Pet"]["properties"];
    assert_eq!(pet["name"], json!({ "type": ["string", "null"] }));
    assert_eq!(pet["example"], json!({ "type": "string" }));
    assert_eq!(pet["parents"]["items"]["$ref"], "#/$defs/Pet");
}

#[tokio::test]
async fn a_call_is_checked_and_becomes_the_request_that_the_document_describes() {
    let service = Service::start(|_| ok("{}")).await;
    let options = OpenApiOptions {
        base_url: Some(service.url("/base/")),
        headers: [("Authorization".to_owned(), "Bearer k".into())].into(),
    };
    let tools = tools(source(document(), &options).unwrap()).await;
    let arguments = json!({ "petId": 7, "fields": ["a", "b"], "tag": ["x", "y"], "X-Trace": "t" });
    call(&tools, "pets__getPet", arguments).await.unwrap();
    let pet = json!({ "name": null, "parents": [{ "name": "Rex" }] });
    call(
        &tools,
        "pets__replace_pet",
        json!({ "petId": 7, "body": pet }),
    )
    .await
    .unwrap();
    let bad = json!({ "petId": 7, "body": { "name": "x", "parents": [{}] } });
    let error = call(&tools, "pets__replace_pet", bad).await.unwrap_err();
    assert!(
        error.to_string().contains("/body/parents/0/name"),
        "{error}"
    );

    let [get, put] = service.asked().try_into().unwrap();
    assert_eq!(get.uri, "/base/pets/7?fields=a%2Cb&tag=x&tag=y");
    assert_eq!(
        (
            get.headers["x-trace"].as_str(),
            get.headers["authorization"].as_str()
        ),
        ("t", "Bearer k")
    );
    assert_eq!(
        (put.method.as_str(), put.uri.as_str()),
        ("PUT", "/base/pets/7")
    );
    assert_eq!(put.body, pet.to_string());
    assert_eq!(put.headers["idempotency-key"], "key");
}

#[test]
fn a_document_without_a_usable_server_or_version_is_refused() {
    let refused = |document: Value| {
        source(document, &OpenApiOptions::default())
            .err()
            .unwrap()
            .to_string()
    };
    assert!(refused(json!({ "swagger": "2.0" })).contains("version 3"));
    let relative = json!({ "openapi": "3.1.0", "servers": [{ "url": "/v1" }], "paths": {} });
    assert!(refused(relative).contains("base_url"));
    let mut twice = document();
    twice["paths"]["/other"] = json!({ "get": { "operationId": "getPet" } });
    assert!(refused(twice).contains("pets__getPet"));
}
