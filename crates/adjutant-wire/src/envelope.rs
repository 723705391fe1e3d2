//! JSON-RPC 2.0: requests, notifications, responses.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    dispatch::{Call, Notice},
    error::{Error, Result},
    fault::{ErrorCode, RpcError},
};

/// What pairs a response with its request; unique per sender.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum RequestId {
    /// An integer.
    Number(i64),
    /// A string.
    Text(String),
}

impl From<i64> for RequestId {
    fn from(id: i64) -> Self {
        Self::Number(id)
    }
}

impl From<&str> for RequestId {
    fn from(id: &str) -> Self {
        Self::Text(id.to_owned())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(id) => id.fmt(f),
            Self::Text(id) => id.fmt(f),
        }
    }
}

/// One JSON-RPC message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Wants an answer.
    Request(Request),
    /// Wants none.
    Notification(Notification),
    /// Is one.
    Response(Response),
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Chosen by the sender.
    pub id: RequestId,
    /// See [`Method`](crate::Method).
    pub method: String,
    /// The parameters; null when there are none.
    pub params: Value,
}

/// A notification.
#[derive(Debug, Clone, PartialEq)]
pub struct Notification {
    /// See [`Method`](crate::Method).
    pub method: String,
    /// The parameters; null when there are none.
    pub params: Value,
}

/// How a request ended.
pub type Outcome = std::result::Result<Value, RpcError>;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// The request's id; `None` (null on the wire) when the request was too broken to have one.
    pub id: Option<RequestId>,
    /// The result or the error.
    pub outcome: Outcome,
}

impl Request {
    /// A typed request.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] when the parameters hold something that JSON cannot say.
    pub fn call<C: Call>(id: impl Into<RequestId>, params: &C) -> Result<Self> {
        let params = to_params(C::METHOD, params)?;
        Ok(Self {
            id: id.into(),
            method: C::METHOD.to_owned(),
            params,
        })
    }

    /// The response to this request.
    #[must_use]
    pub fn answer(&self, outcome: Outcome) -> Response {
        Response {
            id: Some(self.id.clone()),
            outcome,
        }
    }
}

impl Notification {
    /// A typed notification.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] when the parameters hold something that JSON cannot say.
    pub fn notice<N: Notice>(params: &N) -> Result<Self> {
        Ok(Self {
            method: N::METHOD.to_owned(),
            params: to_params(N::METHOD, params)?,
        })
    }
}

fn to_params<T: Serialize>(method: &'static str, params: &T) -> Result<Value> {
    serde_json::to_value(params).map_err(|source| Error::Encode { method, source })
}

impl Response {
    /// A success.
    #[must_use]
    pub const fn ok(id: RequestId, result: Value) -> Self {
        Self {
            id: Some(id),
            outcome: Ok(result),
        }
    }

    /// A failure.
    #[must_use]
    pub const fn error(id: Option<RequestId>, error: RpcError) -> Self {
        Self {
            id,
            outcome: Err(error),
        }
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl From<Notification> for Message {
    fn from(notification: Notification) -> Self {
        Self::Notification(notification)
    }
}

impl From<Response> for Message {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

impl Message {
    /// The JSON object that goes on the wire.
    #[must_use]
    pub fn into_json(self) -> Value {
        match self {
            Self::Request(Request { id, method, params }) => {
                json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
            }
            Self::Notification(Notification { method, params }) => {
                json!({"jsonrpc": "2.0", "method": method, "params": params})
            }
            Self::Response(Response {
                id,
                outcome: Ok(result),
            }) => {
                json!({"jsonrpc": "2.0", "id": id, "result": result})
            }
            Self::Response(Response {
                id,
                outcome: Err(error),
            }) => {
                json!({"jsonrpc": "2.0", "id": id, "error": error})
            }
        }
    }

    /// Reads a JSON object that claims to be JSON-RPC.
    ///
    /// # Errors
    ///
    /// The response to send back when it is not: -32600, with the id if there was a usable one.
    pub fn from_object(mut object: Map<String, Value>) -> Result<Self, Box<Response>> {
        let refuse = |id: Option<RequestId>, why: &str| {
            Err(Box::new(Response::error(
                id,
                RpcError::new(ErrorCode::InvalidRequest, why),
            )))
        };
        if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return refuse(None, "jsonrpc must be \"2.0\"");
        }
        let id = match object.remove("id") {
            None => None,
            // Only a response to an unreadable request has a null id.
            Some(Value::Null) if !object.contains_key("method") => None,
            Some(id) => match RequestId::deserialize(id) {
                Ok(id) => Some(id),
                Err(_) => return refuse(None, "id must be a string or an integer"),
            },
        };
        match object.remove("method") {
            Some(Value::String(method)) => {
                let params = object.remove("params").unwrap_or(Value::Null);
                Ok(match id {
                    Some(id) => Self::Request(Request { id, method, params }),
                    None => Self::Notification(Notification { method, params }),
                })
            }
            Some(_) => refuse(id, "method must be a string"),
            None => match (object.remove("result"), object.remove("error")) {
                (Some(result), None) => Ok(Self::Response(Response {
                    id,
                    outcome: Ok(result),
                })),
                (None, Some(error)) => match RpcError::deserialize(error) {
                    Ok(error) => Ok(Self::Response(Response {
                        id,
                        outcome: Err(error),
                    })),
                    Err(_) => refuse(id, "error must have a code and a message"),
                },
                _ => refuse(id, "neither a method, nor exactly one of result and error"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Message, Box<Response>> {
        let Value::Object(object) = value else {
            panic!("an object is needed")
        };
        Message::from_object(object)
    }

    #[test]
    fn every_kind_of_message_survives_a_round_trip() {
        let messages = [
            Message::from(Request {
                id: 1.into(),
                method: "a".into(),
                params: json!({"x": 1}),
            }),
            Request {
                id: "s-1".into(),
                method: "a".into(),
                params: Value::Null,
            }
            .into(),
            Notification {
                method: "b".into(),
                params: json!({}),
            }
            .into(),
            Response::ok(3.into(), Value::Null).into(),
            Response::error(None, RpcError::method_not_found("c")).into(),
        ];
        for message in messages {
            assert_eq!(read(message.clone().into_json()), Ok(message));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_with_the_id_it_had() {
        let cases = [
            (json!({"id": 1, "method": "a"}), None),
            (json!({"jsonrpc": "1.0", "id": 1, "method": "a"}), None),
            (json!({"jsonrpc": "2.0", "id": [1], "method": "a"}), None),
            (json!({"jsonrpc": "2.0", "id": null, "method": "a"}), None),
            (json!({"jsonrpc": "2.0", "id": 1.5, "method": "a"}), None),
            (
                json!({"jsonrpc": "2.0", "id": 1, "method": 2}),
                Some(RequestId::from(1)),
            ),
            (json!({"jsonrpc": "2.0", "id": 1}), Some(1.into())),
            (
                json!({"jsonrpc": "2.0", "id": 1, "result": 1, "error": {}}),
                Some(1.into()),
            ),
            (
                json!({"jsonrpc": "2.0", "id": 1, "error": "text"}),
                Some(1.into()),
            ),
        ];
        for (value, id) in cases {
            let refusal = read(value.clone()).expect_err(&value.to_string());
            assert_eq!(refusal.id, id, "{value}");
            assert!(
                refusal
                    .outcome
                    .is_err_and(|e| e.is(ErrorCode::InvalidRequest))
            );
        }
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let value = json!({"jsonrpc": "2.0", "method": "a", "params": {}, "_meta": {}, "later": 1});
        assert!(matches!(read(value), Ok(Message::Notification(_))));
    }
}
