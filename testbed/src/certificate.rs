//! Client certificates, written in DER here because a user's groups are repeated organization names in the
//! subject, and `rcgen` keeps only one value for each attribute of a subject.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData, SigningKey};

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
const EXPLICIT_3: u8 = 0xa3;

/// A client certificate in PEM for `key`, naming the user `name` and its `groups`, signed by `issuer_key`.
pub(crate) fn client(
    name: &str,
    groups: &[&str],
    key: &KeyPair,
    issuer_name: &str,
    issuer_key: &KeyPair,
) -> Result<String> {
    let mut subject: Vec<_> = groups.iter().map(|group| (ORGANIZATION, *group)).collect();
    subject.push((COMMON_NAME, name));
    let algorithm = sequence(&[tlv(OBJECT_IDENTIFIER, ECDSA_WITH_SHA256)]);
    let body = sequence(&[
        tlv(EXPLICIT_0, &tlv(INTEGER, &[2])),
        serial_number(key),
        algorithm.clone(),
        distinguished_name(&[(COMMON_NAME, issuer_name)]),
        sequence(&[tlv(UTC_TIME, b"250101000000Z"), tlv(UTC_TIME, b"491231235959Z")]),
        distinguished_name(&subject),
        key.subject_public_key_info(),
        tlv(EXPLICIT_3, &sequence(&[client_auth_only()])),
    ]);
    let signature = issuer_key.sign(&body).context("signing a client certificate")?;
    let signature = tlv(BIT_STRING, &[&[0], signature.as_slice()].concat());
    Ok(pem("CERTIFICATE", &sequence(&[body, algorithm, signature])))
}

/// Taken from the public key, which is as unique as a serial number has to be. The leading byte keeps it positive
/// and without a redundant zero.
fn serial_number(key: &KeyPair) -> Vec<u8> {
    let public = key.der_bytes();
    let digits = public.get(1..16).unwrap_or(public);
    tlv(INTEGER, &[&[0x01], digits].concat())
}

fn client_auth_only() -> Vec<u8> {
    let usages = sequence(&[tlv(OBJECT_IDENTIFIER, CLIENT_AUTH)]);
    sequence(&[tlv(OBJECT_IDENTIFIER, EXTENDED_KEY_USAGE), tlv(OCTET_STRING, &usages)])
}

fn distinguished_name(attributes: &[(&[u8], &str)]) -> Vec<u8> {
    let relative_names: Vec<_> = attributes
        .iter()
        .map(|(kind, value)| {
            let attribute = [tlv(OBJECT_IDENTIFIER, kind), tlv(UTF8_STRING, value.as_bytes())];
            tlv(SET, &sequence(&attribute))
        })
        .collect();
    sequence(&relative_names)
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// Tag, length, value: all there is to DER.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut out = vec![tag];
    match significant {
        [] => out.push(0),
        [short] if *short < 0x80 => out.push(*short),
        long => {
            out.push(0x80 | long.len() as u8);
            out.extend_from_slice(long);
        }
    }
    out.extend_from_slice(value);
    out
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for (index, character) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(character);
    }
    out + &format!("\n-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_short_form_below_128() {
        assert_eq!(tlv(SEQUENCE, &[]), [0x30, 0]);
        assert_eq!(tlv(SEQUENCE, &[7; 127])[..2], [0x30, 127]);
        assert_eq!(tlv(SEQUENCE, &[7; 128])[..3], [0x30, 0x81, 128]);
        assert_eq!(tlv(SEQUENCE, &[7; 256])[..4], [0x30, 0x82, 1, 0]);
    }
}
