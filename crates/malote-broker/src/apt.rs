//! Which Debian mirror this system trusts, read from apt's own lists of sources.
//!
//! apt keeps them in two formats, one line per source (`*.list`) and paragraphs of fields (`*.sources`, deb822). Only
//! what is needed to write one source of our own is kept: the address of the archive and who signs it.

use std::{fs, io, path::Path};

/// A source of Debian's main archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mirror {
    pub(crate) uri: String,
    /// A keyring's path, or a key in the text itself, as deb822 writes it; none for apt's global keys.
    pub(crate) signed_by: Option<String>,
}

impl Mirror {
    /// The deb822 paragraph for another suite of the same archive, of which apt reads only the list of packages.
    pub(crate) fn source(&self, suite: &str) -> String {
        let signed_by = self.signed_by.as_ref().map(|key| format!("Signed-By: {key}\n")).unwrap_or_default();
        format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nTargets: Packages\n{signed_by}",
            self.uri
        )
    }
}

/// One source as it is written, before anything is decided about it.
#[derive(Debug, Default)]
struct Entry {
    binary: bool,
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// How sure it is that a source is Debian's own archive; the surest come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// Debian's archive keyring signs it.
    Keyring,
    /// Its address ends like a Debian mirror's and no other key is named.
    Address,
}

/// Finds Debian's main archive among the sources below `apt` (`/etc/apt`).
pub(crate) fn debian_mirror(apt: &Path) -> io::Result<Option<Mirror>> {
    let mut entries = Vec::new();
    if let Some(text) = read_if_there(&apt.join("sources.list"))? {
        entries.extend(one_line_format(&text));
    }
    let mut files: Vec<_> = match fs::read_dir(apt.join("sources.list.d")) {
        Ok(files) => files.map(|file| file.map(|file| file.path())).collect::<io::Result<_>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    files.sort();
    for file in files {
        let extension = file.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("list" | "sources")) {
            continue;
        }
        let Some(text) = read_if_there(&file)? else { continue };
        entries.extend(if extension == Some("list") { one_line_format(&text) } else { deb822_format(&text) });
    }
    Ok(choose(&entries))
}

fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn choose(entries: &[Entry]) -> Option<Mirror> {
    let mut found: Option<(Trust, Mirror)> = None;
    for entry in entries {
        for uri in &entry.uris {
            let Some(trust) = trust(entry, uri) else { continue };
            if found.as_ref().is_none_or(|(best, _)| trust < *best) {
                found = Some((trust, Mirror { uri: uri.clone(), signed_by: entry.signed_by.clone() }));
            }
        }
    }
    found.map(|(_, mirror)| mirror)
}

/// Third parties also publish a component `main` for Debian's suites, so the signer is asked first.
fn trust(entry: &Entry, uri: &str) -> Option<Trust> {
    let has_main = entry.binary && entry.components.iter().any(|component| component == "main");
    let security = uri.contains("security") || entry.suites.iter().all(|suite| suite.contains("-security"));
    if !has_main || security || uri.starts_with("cdrom:") {
        return None;
    }
    let named_like_a_mirror =
        uri.trim_end_matches('/').rsplit('/').next().is_some_and(|last| last.starts_with("debian"));
    match &entry.signed_by {
        Some(keyring) if keyring.starts_with('/') => {
            keyring.contains("debian-archive").then_some(Trust::Keyring)
        }
        Some(_) | None => named_like_a_mirror.then_some(Trust::Address),
    }
}

/// `deb [signed-by=/a/key.gpg arch=amd64] http://mirror/debian bookworm main contrib`
fn one_line_format(text: &str) -> Vec<Entry> {
    text.lines().filter_map(one_line).collect()
}

fn one_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by =
        options.split_whitespace().find_map(|option| option.strip_prefix("signed-by=")).map(str::to_owned);
    Some(Entry {
        binary: kind == "deb",
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        signed_by,
    })
}

/// Paragraphs of `Field: value`, where a line that starts with a space continues the field above it.
fn deb822_format(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(paragraph(&std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

fn paragraph(fields: &[(String, String)]) -> Option<Entry> {
    let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let words = |name: &str| {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    if field("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no")) {
        return None;
    }
    Some(Entry {
        binary: words("types").iter().any(|kind| kind == "deb"),
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(uri: &str, signed_by: Option<&str>) -> Option<Mirror> {
        Some(Mirror { uri: uri.to_owned(), signed_by: signed_by.map(str::to_owned) })
    }

    fn in_files(files: &[(&str, &str)]) -> Option<Mirror> {
        let apt = tempfile::tempdir().unwrap();
        fs::create_dir(apt.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs::write(apt.path().join(name), text).unwrap();
        }
        debian_mirror(apt.path()).unwrap()
    }

    const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

    #[test]
    fn a_deb822_file_gives_its_first_archive_that_is_not_security() {
        let text = format!(
            "# comment\nTypes: deb\nURIs: http://mirror.test/debian-security\nSuites: bookworm-security\nComponents: main\n\
             Signed-By: {KEYRING}\n\nTypes: deb deb-src\n# comment\nURIs: http://mirror.test/debian\n\
             Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: {KEYRING}\n"
        );
        assert_eq!(
            in_files(&[("sources.list.d/debian.sources", &text)]),
            mirror("http://mirror.test/debian", Some(KEYRING))
        );
    }

    #[test]
    fn a_one_line_file_gives_its_first_archive() {
        let text = "# deb http://commented.test/debian bookworm main\ndeb-src http://src.test/debian bookworm main\n\
                    deb cdrom:[Debian 12]/ bookworm main\ndeb http://sec.test/debian-security bookworm-security main\n\
                    deb [ arch=amd64 ] https://mirror.test/pub/debian/ bookworm main non-free # why\n";
        assert_eq!(in_files(&[("sources.list", text)]), mirror("https://mirror.test/pub/debian/", None));
    }

    #[test]
    fn an_archive_that_debian_signs_wins_over_a_third_party_before_it() {
        let third = "deb http://third.test/runner/debian bookworm main\n";
        let signed = format!("deb [signed-by={KEYRING}] http://cache.test/apt-remote bookworm main\n");
        let found = in_files(&[("sources.list.d/a.list", third), ("sources.list.d/b.list", &signed)]);
        assert_eq!(found, mirror("http://cache.test/apt-remote", Some(KEYRING)));
    }

    #[test]
    fn other_peoples_archives_are_not_debians() {
        let files = [
            (
                "sources.list.d/a.list",
                "deb [signed-by=/etc/apt/keyrings/third.gpg] http://third.test/debian bookworm main\n",
            ),
            ("sources.list.d/b.list", "deb http://third.test/debian bookworm stable\n"),
            ("sources.list.d/c.list.disabled", "deb http://off.test/debian bookworm main\n"),
            (
                "sources.list.d/d.sources",
                "Enabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: sid\nComponents: main\n",
            ),
            ("sources.list", "deb http://archive.test/ubuntu noble main\n"),
        ];
        assert_eq!(in_files(&files), None);
        assert_eq!(debian_mirror(Path::new("/nonexistent")).unwrap(), None);
    }

    #[test]
    fn a_key_inside_the_paragraph_is_carried_over_whole() {
        let key =
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEYCQjIxYJ\n -----END PGP PUBLIC KEY BLOCK-----";
        let text = format!(
            "Types: deb\nURIs: http://mirror.test/debian\nSuites: trixie\nComponents: main\nSigned-By:\n {key}\n"
        );
        let found = in_files(&[("sources.list.d/debian.sources", &text)]).unwrap();
        let source = found.source("forky");
        assert!(source.ends_with(&format!("Signed-By: \n {key}\n")), "{source}");
        assert_eq!(
            choose(&deb822_format(&source)),
            Some(found),
            "our own source reads back as the same mirror"
        );
    }
}
