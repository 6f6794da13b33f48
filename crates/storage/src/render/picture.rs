//! Decoding, scaling and encoding a picture. Blocking; all limits are checked from the header, before pixels are decoded.

use std::io::Cursor;

use image::codecs::gif::GifEncoder;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::transform::{Format, Plan, Transform};
use crate::error::Error;

/// Bytes of memory for each pixel of an original: its own, and one copy while it is turned or its colours are made plain.
const BYTES_PER_PIXEL: u64 = 8;
/// What scaling may take beside the original and the result, in bytes. It makes a copy of the original's width and the result's
/// height, of four numbers of 32 bits for each pixel.
const MOST_SCRATCH: u64 = 128 * 1024 * 1024;
const SCRATCH_PER_PIXEL: u64 = 16;

/// A picture that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) bytes: Vec<u8>,
    pub(super) mime_type: &'static str,
}

/// Makes `transform` of an original, which may have at most `most_pixels`.
pub(super) fn make(
    original: &[u8],
    transform: &Transform,
    takes_webp: bool,
    most_pixels: u64,
) -> Result<Picture, Error> {
    let mut reader = ImageReader::new(Cursor::new(original))
        .with_guessed_format()
        .map_err(|_| Error::InvalidImage("The object is no image that can be transformed"))?;
    let source = reader.format().filter(|format| is_read(*format));
    let source = source.ok_or(Error::InvalidImage("The object is no JPEG, PNG, WebP or GIF image"))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(most_pixels * BYTES_PER_PIXEL);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > most_pixels {
        return Err(Error::InvalidImage("The image has too many pixels to be transformed"));
    }
    // More than eight bits for a colour take more memory than the pixels say.
    if decoder.total_bytes() > most_pixels * BYTES_PER_PIXEL / 2 {
        return Err(Error::InvalidImage("The image is too large to be transformed"));
    }
    decoder.set_limits(limits).map_err(refused)?;
    // What says nothing stands upright.
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(refused)?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    let plan = transform.plan(picture.width(), picture.height());
    picture = scale(picture, plan);
    encode(&picture, output(source, transform.format, takes_webp), transform.lossy_quality())
}

/// How a picture becomes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steps {
    /// The middle of it that is kept: what is cropped away is never scaled.
    part: (u32, u32),
    /// The width that it is averaged to first.
    averaged: Option<u32>,
    result: (u32, u32),
}

impl Steps {
    fn of(own: (u32, u32), Plan { scaled, cropped }: Plan) -> Self {
        let part = |own: u32, scaled: u32, cropped: u32| {
            let part = u64::from(own) * u64::from(cropped) / u64::from(scaled.max(1));
            u32::try_from(part).unwrap_or(own).clamp(1, own)
        };
        let part = (part(own.0, scaled.0, cropped.0), part(own.1, scaled.1, cropped.1));
        let mut steps = Self { part, averaged: None, result: cropped };
        // Averages of whole pixels take no scratch; from twice the width on the better filter has enough to work with.
        if steps.scratch() > MOST_SCRATCH {
            steps.averaged = Some((cropped.0 * 2).min(part.0));
        }
        if steps.scratch() > MOST_SCRATCH {
            steps.averaged = Some(cropped.0.min(part.0));
        }
        steps
    }

    /// Bytes that the last step takes beside the pictures.
    fn scratch(&self) -> u64 {
        if self.part == self.result {
            return 0;
        }
        scratch(self.averaged.unwrap_or(self.part.0), self.result.1)
    }
}

fn scale(mut picture: DynamicImage, plan: Plan) -> DynamicImage {
    let (width, height) = (picture.width(), picture.height());
    let Steps { part, averaged, result } = Steps::of((width, height), plan);
    if part != (width, height) {
        picture = picture.crop_imm((width - part.0) / 2, (height - part.1) / 2, part.0, part.1);
    }
    if part == result {
        return picture;
    }
    picture = plain(picture);
    if let Some(averaged) = averaged {
        picture = picture.thumbnail_exact(averaged, part.1);
    }
    picture.resize_exact(result.0, result.1, FilterType::CatmullRom)
}

fn scratch(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height) * SCRATCH_PER_PIXEL
}

fn is_read(format: ImageFormat) -> bool {
    matches!(format, ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Gif)
}

/// The format of a result. WebP is lossless here, so that it is smaller than PNG and larger than JPEG.
fn output(source: ImageFormat, asked: Format, takes_webp: bool) -> ImageFormat {
    match (asked, source) {
        (Format::Jpeg, _) => ImageFormat::Jpeg,
        (Format::Png, _) => ImageFormat::Png,
        (Format::WebP, _) => ImageFormat::WebP,
        (Format::Origin, source) | (Format::Automatic, source @ ImageFormat::Jpeg) => source,
        (Format::Automatic, _) if takes_webp => ImageFormat::WebP,
        (Format::Automatic, ImageFormat::WebP) => ImageFormat::Png,
        (Format::Automatic, source) => source,
    }
}

fn encode(picture: &DynamicImage, format: ImageFormat, quality: u8) -> Result<Picture, Error> {
    let mut bytes = Vec::new();
    let encoded = match format {
        // JPEG has no transparency.
        ImageFormat::Jpeg => {
            DynamicImage::from(picture.to_rgb8()).write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality))
        }
        ImageFormat::WebP => plain(picture.clone()).write_with_encoder(WebPEncoder::new_lossless(&mut bytes)),
        ImageFormat::Gif => {
            let rgba = picture.to_rgba8();
            let mut encoder = GifEncoder::new(&mut bytes);
            encoder.encode(rgba.as_raw(), rgba.width(), rgba.height(), image::ExtendedColorType::Rgba8)
        }
        _ => picture.write_with_encoder(PngEncoder::new(&mut bytes)),
    };
    encoded.map_err(|error| match error {
        ImageError::IoError(_) | ImageError::Limits(_) => {
            Error::InvalidImage("The image cannot be written in this size")
        }
        _ => Error::Internal("an image that no encoder takes"),
    })?;
    Ok(Picture { bytes, mime_type: format.to_mime_type() })
}

/// Eight bits for each colour, which is what WebP has.
fn plain(picture: DynamicImage) -> DynamicImage {
    match picture.color().has_alpha() {
        true => picture.into_rgba8().into(),
        false => picture.into_rgb8().into(),
    }
}

fn refused(error: ImageError) -> Error {
    match error {
        ImageError::Limits(_) => Error::InvalidImage("The image is too large to be transformed"),
        _ => Error::InvalidImage("The image is damaged or of a kind that cannot be transformed"),
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    const MOST: u64 = 1_000_000;

    fn original(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let picture = RgbImage::from_fn(width, height, |x, y| {
            Rgb([u8::try_from(x % 256).unwrap(), u8::try_from(y % 256).unwrap(), 7])
        });
        let picture = DynamicImage::from(picture);
        encode(&picture, format, 90).unwrap().bytes
    }

    #[test]
    fn every_format_in_and_out() {
        use ImageFormat::{Gif, Jpeg, Png, WebP};
        let check = |source: ImageFormat, query: &str, takes_webp: bool, expected: ImageFormat, size: (u32, u32)| {
            let transform = Transform::of_text(query).unwrap();
            let picture = make(&original(40, 20, source), &transform, takes_webp, MOST).unwrap();
            assert_eq!(picture.mime_type, expected.to_mime_type(), "{source:?} {query}");
            let made = image::load_from_memory_with_format(&picture.bytes, expected).unwrap();
            assert_eq!((made.width(), made.height()), size, "{source:?} {query}");
        };
        for source in [Jpeg, Png, WebP, Gif] {
            check(source, "width=20&format=origin", true, source, (20, 10));
            check(source, "width=10&height=10&format=jpeg", true, Jpeg, (10, 10));
            check(source, "width=10&height=10&resize=fill&format=png", true, Png, (10, 10));
            check(source, "height=10&width=10&resize=contain&format=webp", false, WebP, (10, 5));
        }
        check(Jpeg, "", true, Jpeg, (40, 20));
        check(Png, "", true, WebP, (40, 20));
        check(Png, "", false, Png, (40, 20));
        check(Gif, "", true, WebP, (40, 20));
        check(WebP, "", false, Png, (40, 20));
    }

    #[test]
    fn quality_makes_files_smaller() {
        let size = |query: &str| {
            make(&original(200, 200, ImageFormat::Jpeg), &Transform::of_text(query).unwrap(), false, MOST)
                .unwrap()
                .bytes
                .len()
        };
        assert!(size("quality=20") < size("") && size("") < size("quality=100"));
    }

    /// A header that promises more pixels than may be is refused before anything of them is decoded.
    #[test]
    fn bombs_are_refused_by_their_header() {
        let mut png = original(10, 10, ImageFormat::Png);
        // IHDR: width and height at 16 and 20, CRC at 29.
        png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let outcome = make(&png, &Transform::default(), false, MOST);
        assert!(matches!(outcome, Err(Error::InvalidImage(what)) if what.contains("pixels")), "{outcome:?}");
        assert!(make(&original(1001, 1000, ImageFormat::Jpeg), &Transform::default(), false, MOST).is_err());
    }

    /// A solid picture of 20,000 x 2,500 pixels is a small file, and scaled to 2,500 x 2,499 by the filter alone it would take
    /// 800 MB beside itself.
    #[test]
    fn no_shape_takes_more_memory_than_any_other() {
        const PIXELS: u64 = 50_000_000;
        let sides = ["", "1", "7", "100", "1249", "2499", "2500"];
        for width in [1, 2, 100, 2_499, 2_500, 2_501, 5_000, 7_071, 20_000, 100_000, 25_000_000, 50_000_000_u32] {
            let height = u32::try_from(PIXELS / u64::from(width)).unwrap();
            for (a, b) in sides.iter().flat_map(|a| sides.map(|b| (a, b))) {
                for resize in ["cover", "contain", "fill"] {
                    let query = format!("width={a}&height={b}&resize={resize}");
                    let plan = Transform::of_text(&query).unwrap().plan(width, height);
                    let steps = Steps::of((width, height), plan);
                    assert!(steps.scratch() <= MOST_SCRATCH, "{width} x {height} {query}: {steps:?}");
                    assert!(
                        steps.result.0 <= 2_500 && steps.result.1 <= 2_500,
                        "{width} x {height} {query}: {steps:?}"
                    );
                }
            }
        }
    }

    /// The steps in between do not show.
    #[test]
    fn what_is_averaged_first_looks_the_same() {
        let whole = DynamicImage::from(RgbImage::from_fn(400, 40, |x, _| Rgb([u8::try_from(x / 2).unwrap(); 3])));
        let plan = Transform::of_text("width=50&height=20&resize=fill").unwrap().plan(400, 40);
        let (direct, averaged) = (scale(whole.clone(), plan), whole.thumbnail_exact(100, 40));
        let averaged = averaged.resize_exact(50, 20, FilterType::CatmullRom);
        for (a, b) in direct.to_rgb8().iter().zip(averaged.to_rgb8().iter()) {
            assert!(a.abs_diff(*b) <= 4, "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_whole_image_is_refused() {
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
            let whole = original(30, 30, format);
            // However much of it is there, nothing falls.
            for end in (0..whole.len()).step_by(7) {
                let _ = make(&whole[..end], &Transform::default(), false, MOST);
            }
            assert!(make(&whole[..20], &Transform::default(), false, MOST).is_err(), "{format:?}");
        }
        for bad in [&b""[..], b"text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"BM\0\0\0\0\0\0\0\0", b"II*\0"] {
            assert!(matches!(make(bad, &Transform::default(), false, MOST), Err(Error::InvalidImage(_))));
        }
    }
}
