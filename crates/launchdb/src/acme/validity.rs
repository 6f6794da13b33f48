//! Until when a certificate is valid (RFC 5280, section 4.1).

use base::calendar::days_of;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version of a certificate, which version 1 leaves out.
const VERSION: u8 = 0xa0;

/// Beginning and end of the validity of a certificate (DER), in seconds since the Unix epoch.
pub(super) fn validity(der: &[u8]) -> Option<(i64, i64)> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (signed, _) = expect(SEQUENCE, certificate)?;
    let rest = match element(signed)? {
        (VERSION, _, rest) => rest,
        _ => signed,
    };
    let (_serial, rest) = expect(INTEGER, rest)?;
    let (_algorithm, rest) = expect(SEQUENCE, rest)?;
    let (_issuer, rest) = expect(SEQUENCE, rest)?;
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (kind, begin, rest) = element(validity)?;
    let begin = time(kind, begin)?;
    let (kind, end, _) = element(rest)?;
    Some((begin, time(kind, end)?))
}

/// Tag, content and what follows, of the first element of `bytes`.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Both forms end with seconds and `Z` in a certificate; years of the short one are from 1950 to 2049.
fn time(kind: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let (year, rest) = match (kind, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let part = |index: usize| number(&rest[2 * index..2 * index + 2]);
    let [month, day, hour, minute, second] = [0, 1, 2, 3, 4].map(part);
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    fits.then(|| ((days_of(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let check = |kind, text: &str, expected| assert_eq!(time(kind, text.as_bytes()), expected, "{text}");
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "261126093000Z", Some(1_795_685_400));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(GENERALIZED_TIME, "20261126093000Z", Some(1_795_685_400));
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
        for text in ["", "Z", "2611260930Z", "261126093000", "261126093000+0100", "26112609300xZ", "261326093000Z"] {
            check(UTC_TIME, text, None);
        }
        check(GENERALIZED_TIME, "261126093000Z", None);
    }

    #[test]
    fn a_certificate_is_read_and_nothing_else_is() {
        let mut params = rcgen::CertificateParams::new(vec!["db.example.org".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 11, 26);
        params.not_after = rcgen::date_time_ymd(2057, 2, 24);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let der = made.der();
        let expected = (days_of(2026, 11, 26) * 86_400, days_of(2057, 2, 24) * 86_400);
        assert_eq!(validity(der), Some(expected));
        for length in 0..der.len() {
            assert_eq!(validity(&der[..length]), None, "{length}");
        }
        assert_eq!(validity(b"0\x84\xff\xff\xff\xff0"), None);
        assert_eq!(validity(b"0\x80"), None);
    }
}
