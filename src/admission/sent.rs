//! Objects as the API server sends them, without their `managedFields`: often half of what is sent, and nothing that a verdict
//! rests on.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Reads an object. What is none is read as it is: the verdict says what is wrong with it.
pub(super) fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Part::Object.deserialize(deserializer)
}

/// Where in what was sent something is read.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Part {
    Object,
    Metadata,
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut all = vec![];
        while let Some(element) = elements.next_element()? {
            all.push(element);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(field) = fields.next_key::<String>()? {
            let value = match (self, field.as_str()) {
                (Self::Metadata, "managedFields") => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
                (Self::Object, "metadata") => fields.next_value_seed(Self::Metadata)?,
                _ => fields.next_value()?,
            };
            all.insert(field, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> serde_json::Result<Value> {
        object(&mut serde_json::Deserializer::from_str(text))
    }

    #[test]
    fn everything_is_kept_but_managed_fields() {
        let kept = json!({"metadata": {"name": "a", "labels": {"managedFields": "b"}}, "spec": {"managedFields": [1]}});
        let mut sent = kept.clone();
        sent["metadata"]["managedFields"] = json!([{"fieldsV1": {"f:spec": {}}}]);
        assert_eq!(read(&sent.to_string()).unwrap(), kept);
        assert_eq!(read("null").unwrap(), Value::Null);
        assert_eq!(read(r#"{"metadata": null}"#).unwrap(), json!({"metadata": null}));
    }

    #[test]
    fn what_is_no_object_is_read_as_it_is() {
        for text in
            ["1", "-1", "1.5", "[1,{}]", "true", r#""a""#, r#"{"metadata":1}"#, r#"{"metadata":["managedFields"]}"#]
        {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert!(read("{").is_err());
    }
}
