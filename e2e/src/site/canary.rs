//! A password that must stand nowhere where people look: searched for in everything that a site leaves.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Every form in which a password could be shown without anybody meaning to.
fn forms(password: &str) -> Vec<String> {
    let encoded: String = reqwest::Url::parse_with_params("x:", [("", password)])
        .map(|url| url.query().unwrap_or_default().trim_start_matches('=').to_owned())
        .unwrap_or_default();
    let mut forms = vec![password.to_owned(), STANDARD.encode(password), encoded];
    forms.retain(|form| !form.is_empty());
    forms.dedup();
    forms
}

/// Where in `text` a password stands: the lines, with the password blacked out.
pub(super) fn found(passwords: &[String], what: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for password in passwords {
        for form in forms(password) {
            let lines = text.lines().filter(|line| line.contains(&form));
            found.extend(lines.map(|line| format!("{what}: {}", line.replace(&form, "«the password»"))));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_in_each_of_its_forms_and_not_shown() {
        let passwords = vec!["p@ss/w0rd".to_owned()];
        for text in ["a\nrtsp://u:p@ss/w0rd@h\n", "u:p%40ss%2Fw0rd@h", &STANDARD.encode("p@ss/w0rd")] {
            let found = found(&passwords, "a log", text);
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].starts_with("a log: ") && !found[0].contains("w0rd"), "{found:?}");
        }
        assert!(found(&passwords, "a log", "p@ss").is_empty());
    }
}
