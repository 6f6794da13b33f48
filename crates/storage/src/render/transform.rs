//! What is asked of an image, and the sizes that come of it. Pure.

use serde_json::{Map, Value};

use crate::error::Error;

/// Longest side of a result, in pixels; larger ones are cut to it, as upstream does.
const LONGEST_SIDE: u32 = 2_500;
/// Worst and best quality of a lossy result.
const QUALITY: std::ops::RangeInclusive<u8> = 20..=100;
const DEFAULT_QUALITY: u8 = 80;

/// How a picture fits into the asked width and height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Resize {
    /// Fills them and is cropped at its sides.
    #[default]
    Cover,
    /// Lies within them.
    Contain,
    /// Is stretched to them.
    Fill,
}

/// The format of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    /// WebP where it is smaller and the client takes it, otherwise the original's.
    #[default]
    Automatic,
    Origin,
    Jpeg,
    Png,
    WebP,
}

/// A transformation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Transform {
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    pub(crate) resize: Resize,
    pub(crate) quality: Option<u8>,
    pub(crate) format: Format,
}

fn refused(name: &str, what: &str) -> Error {
    Error::InvalidRequest(format!("{name} {what}").into())
}

impl Transform {
    /// From the parameters of a query: `value` gives one, decoded.
    pub(crate) fn of_query(value: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let side = |name: &str| match value(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => match text.parse::<u32>() {
                Ok(number) if number > 0 && text.bytes().all(|b| b.is_ascii_digit()) => {
                    Ok(Some(number.min(LONGEST_SIDE)))
                }
                _ => Err(refused(name, "must be a whole number of pixels from 1")),
            },
        };
        let resize = match value("resize").as_deref() {
            None | Some("" | "cover") => Resize::Cover,
            Some("contain") => Resize::Contain,
            Some("fill") => Resize::Fill,
            Some(_) => return Err(refused("resize", "must be one of cover, contain, fill")),
        };
        let quality = match value("quality").filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                let quality = text.parse::<u8>().ok().filter(|quality| QUALITY.contains(quality));
                Some(quality.ok_or_else(|| refused("quality", "must be a whole number from 20 to 100"))?)
            }
        };
        let format = match value("format").as_deref() {
            None | Some("") => Format::Automatic,
            Some("origin") => Format::Origin,
            Some("jpeg" | "jpg") => Format::Jpeg,
            Some("png") => Format::Png,
            Some("webp") => Format::WebP,
            Some("avif") => return Err(Error::NotBuilt("AVIF as the format of a transformed image")),
            Some(_) => return Err(refused("format", "must be one of origin, jpeg, png, webp")),
        };
        Ok(Self { width: side("width")?, height: side("height")?, resize, quality, format })
    }

    /// From the `transform` of a request for a signed link.
    pub(crate) fn of_json(map: &Map<String, Value>) -> Result<Self, Error> {
        Self::of_query(|name| match map.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
    }

    /// From the text that [`Self::text`] made.
    pub(crate) fn of_text(text: &str) -> Result<Self, Error> {
        Self::of_query(|name| crate::request::query_value(text, name))
    }

    /// The transformation in one form, for tokens and tags.
    pub(crate) fn text(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.width.map(|width| format!("width={width}")));
        parts.extend(self.height.map(|height| format!("height={height}")));
        match self.resize {
            Resize::Cover => {}
            Resize::Contain => parts.push("resize=contain".to_owned()),
            Resize::Fill => parts.push("resize=fill".to_owned()),
        }
        parts.extend(self.quality.map(|quality| format!("quality={quality}")));
        let format = match self.format {
            Format::Automatic => None,
            Format::Origin => Some("origin"),
            Format::Jpeg => Some("jpeg"),
            Format::Png => Some("png"),
            Format::WebP => Some("webp"),
        };
        parts.extend(format.map(|format| format!("format={format}")));
        parts.join("&")
    }

    pub(crate) fn lossy_quality(&self) -> u8 {
        self.quality.unwrap_or(DEFAULT_QUALITY)
    }

    /// What to make of a picture of this size. Nothing is enlarged.
    pub(crate) fn plan(&self, width: u32, height: u32) -> Plan {
        let same = Plan { scaled: (width, height), cropped: (width, height) };
        if width == 0 || height == 0 {
            return same;
        }
        let (own_width, own_height) = (f64::from(width), f64::from(height));
        let ratio = |asked: Option<u32>, own: f64| asked.map(|asked| f64::from(asked) / own);
        let (by_width, by_height) = (ratio(self.width, own_width), ratio(self.height, own_height));
        // A side that nobody asked for is free, but no result is longer than the longest.
        let longest = f64::from(LONGEST_SIDE) / own_width.max(own_height);
        let (factor, crops) = match (by_width, by_height) {
            (None, None) => (longest, false),
            (Some(factor), None) | (None, Some(factor)) => (factor.min(longest), false),
            (Some(a), Some(b)) => match self.resize {
                Resize::Cover => (a.max(b), true),
                Resize::Contain => (a.min(b), false),
                Resize::Fill => {
                    let size = (whole(own_width * a.min(1.0)), whole(own_height * b.min(1.0)));
                    return Plan { scaled: size, cropped: size };
                }
            },
        };
        let factor = factor.min(1.0);
        let scaled = (whole(own_width * factor), whole(own_height * factor));
        let cropped = match (crops, self.width, self.height) {
            (true, Some(width), Some(height)) => (scaled.0.min(width), scaled.1.min(height)),
            _ => scaled,
        };
        Plan { scaled, cropped }
    }
}

/// A number of pixels: at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a saturating cast of what is not negative"
)]
fn whole(number: f64) -> u32 {
    number.round().max(1.0) as u32
}

/// Sizes of a result: to which it is scaled, and what is kept of the middle of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) scaled: (u32, u32),
    pub(crate) cropped: (u32, u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Option<Transform> {
        Transform::of_text(query).ok()
    }

    #[test]
    fn parameters_are_checked() {
        for good in
            ["", "width=100", "width=100&height=50&resize=contain&quality=20&format=origin", "width=", "other=1"]
        {
            let transform = of(good).unwrap();
            assert_eq!(of(&transform.text()), Some(transform), "{good}");
        }
        assert_eq!(of("width=100000").unwrap().width, Some(LONGEST_SIDE));
        for bad in [
            "width=0",
            "width=-1",
            "width=1.5",
            "width=x",
            "width=%2B1",
            "width=99999999999",
            "height=0x10",
            "quality=19",
            "quality=101",
            "quality=-1",
            "resize=crop",
            "format=avif",
            "format=tiff",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        let check = |query: &str, size: (u32, u32), scaled: (u32, u32), cropped: (u32, u32)| {
            assert_eq!(of(query).unwrap().plan(size.0, size.1), Plan { scaled, cropped }, "{query} of {size:?}");
        };
        check("", (400, 200), (400, 200), (400, 200));
        check("", (5_000, 100), (2_500, 50), (2_500, 50));
        check("width=100", (400, 200), (100, 50), (100, 50));
        check("height=100", (400, 200), (200, 100), (200, 100));
        check("width=100&height=100", (400, 200), (200, 100), (100, 100));
        check("width=100&height=100&resize=contain", (400, 200), (100, 50), (100, 50));
        check("width=100&height=100&resize=fill", (400, 200), (100, 100), (100, 100));
        // Nothing grows.
        check("width=1000", (400, 200), (400, 200), (400, 200));
        check("width=1000&height=100", (400, 200), (400, 200), (400, 100));
        check("width=1000&height=1000&resize=fill", (400, 200), (400, 200), (400, 200));
        // A side never gets lost, and none gets longer than the longest.
        check("width=1", (10_000, 1), (1, 1), (1, 1));
        check("height=2000", (60_000, 3_000), (2_500, 125), (2_500, 125));
    }
}
