//! A QR code as SVG.

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of white around it (ISO 18004 asks for four).
const BORDER: i32 = 4;

/// The picture of `text`; none when that is too long for one.
pub(super) fn svg(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let size = code.size() + 2 * BORDER;
    let mut path = String::new();
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let run = (x..code.size()).take_while(|x| code.get_module(*x, y)).count();
            let run = i32::try_from(run).unwrap_or_default();
            if run > 0 {
                // Writing to a String cannot fail.
                write!(path, "M{} {}h{run}v1h-{run}z", x + BORDER, y + BORDER).ok();
            }
            x += run.max(1);
        }
    }
    // Clients put it behind `data:image/svg+xml;utf-8,` as it is, where a # would end it.
    Some(format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='240' height='240' viewBox='0 0 {size} {size}' \
         shape-rendering='crispEdges'><rect width='100%' height='100%' fill='white'/>\
         <path d='{path}' fill='black'/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_dark_module() {
        let picture = svg("otpauth://totp/a:b?secret=C").unwrap();
        let code = QrCode::encode_text("otpauth://totp/a:b?secret=C", QrCodeEcc::Medium).unwrap();
        let all = (0..code.size()).flat_map(|y| (0..code.size()).map(move |x| (x, y)));
        let dark = all.filter(|(x, y)| code.get_module(*x, *y)).count();
        let drawn: usize =
            picture.split("v1h-").skip(1).map(|rest| rest.split('z').next().unwrap().parse::<usize>().unwrap()).sum();
        assert_eq!(drawn, dark);
        assert!(!picture.contains('#') && !picture.contains('"'));
        assert_eq!(svg(&"x".repeat(5000)), None);
    }
}
