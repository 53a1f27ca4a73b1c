//! How people write stages and weights.

use crossfade::stage::{Stage, Weight};

/// `target_only`, `target-only`, `TargetOnly`, `切流完成`.
pub(super) fn stage(text: &str) -> Result<Stage, String> {
    let plain = |name: &str| name.replace(['_', '-', ' '], "").to_lowercase();
    Stage::ALL
        .into_iter()
        .find(|stage| plain(stage.as_str()) == plain(text) || stage.chinese() == text)
        .ok_or_else(|| {
            let names: Vec<&str> = Stage::ALL.iter().map(|stage| stage.as_str()).collect();
            format!("the stages are {}", names.join(", "))
        })
}

/// `30%`, `0.5%`, `3000bp`.
pub(super) fn weight(text: &str) -> Result<Weight, String> {
    let wrong = || {
        format!(
            "{text:?} is not a weight: write 0% to 100% (two digits after the point), or 0bp to 10000bp"
        )
    };
    let basis_points = if let Some(number) = text.strip_suffix("bp") {
        number.parse().map_err(|_| wrong())?
    } else if let Some(percent) = text.strip_suffix('%') {
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        let digits =
            part.len() <= 2 && !part.is_empty() && part.chars().all(|digit| digit.is_ascii_digit());
        if !digits {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().map_err(|_| wrong())?;
        let hundredths: u32 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
        whole
            .checked_mul(100)
            .and_then(|whole| whole.checked_add(hundredths))
            .ok_or_else(wrong)?
    } else {
        return Err(wrong());
    };
    Weight::from_basis_points(basis_points).map_err(|_| wrong())
}

/// Both names.
pub(super) fn both_names(stage: Stage) -> String {
    format!("{stage} {}", stage.chinese())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_exactly_or_refused() {
        for (text, basis_points) in [
            ("30%", 3_000),
            ("0%", 0),
            ("100%", 10_000),
            ("0.5%", 50),
            ("12.34%", 1_234),
            ("7bp", 7),
            ("10000bp", 10_000),
        ] {
            assert_eq!(weight(text).unwrap().basis_points(), basis_points, "{text}");
        }
        for text in [
            "",
            "30",
            "%",
            "-1%",
            "100.01%",
            "101%",
            "10001bp",
            "1.234%",
            "1.%",
            "x%",
            "99999999999%",
        ] {
            assert!(weight(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stages_are_read_in_every_usual_spelling() {
        for text in [
            "target_only",
            "target-only",
            "TargetOnly",
            "TARGET_ONLY",
            "切流完成",
        ] {
            assert_eq!(stage(text), Ok(Stage::TargetOnly), "{text}");
        }
        assert!(stage("target").is_err());
    }
}
