//! What a line of text must not hold. Words searched for are put together here, or this file would find itself.

use super::Finding;
use super::repo::{Repo, numbered};

const LONGEST: usize = 700;

const UNFINISHED: &[&str] = &[concat!("todo", "!"), concat!("FIX", "ME"), concat!("XX", "X")];

const MACHINE: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/fa", "rm/")];

const REGISTRIES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("debian", ".org"),
    concat!("ubuntu", ".com"),
    concat!("npmjs", "."),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("proxy.golang", ".org"),
];

/// Code that is too long to tell one story. Texts for people, such as the change log, may grow.
pub(super) fn length(repo: &Repo) -> Vec<Finding> {
    let code = |path: &str| has_ending(path, &["rs", "proto", "sql", "sh", "js", "css", "html"]);
    sources(repo)
        .filter(|(path, text)| code(path) && text.lines().count() > LONGEST)
        .map(|(path, text)| {
            let wrong = format!("{} lines, more than {LONGEST}", text.lines().count());
            Finding::new(path, LONGEST + 1, wrong, "split it where its second story starts")
        })
        .collect()
}

/// Tabs, spaces at the end of a line, and carriage returns: the first of each kind in a file, with how many.
pub(super) fn white_space(repo: &Repo) -> Vec<Finding> {
    type Kind = (&'static str, &'static str, fn(&str) -> bool);
    let kinds: [Kind; 3] = [
        ("a tab", "use spaces", |line| line.contains('\t')),
        ("a space at the end of a line", "take it away", |line| line.trim_end_matches('\r').ends_with(' ')),
        ("a carriage return", "end lines with a line feed alone", |line| line.contains('\r')),
    ];
    let mut findings = Vec::new();
    for (path, text) in sources(repo) {
        for (what, mend, is_there) in kinds {
            let mut lines = numbered(text).filter(|(_, line)| is_there(line)).map(|(number, _)| number);
            if let Some(first) = lines.next() {
                let wrong = match lines.count() {
                    0 => what.to_owned(),
                    more => format!("{what}, and in {more} more lines"),
                };
                findings.push(Finding::new(path, first, wrong, mend));
            }
        }
    }
    findings
}

/// Marks of work that somebody meant to come back to.
pub(super) fn unfinished(repo: &Repo) -> Vec<Finding> {
    let joins = |character: char| character.is_alphanumeric() || character == '_';
    let stands_alone =
        |before: Option<char>, after: Option<char>| !before.is_some_and(joins) && !after.is_some_and(joins);
    search(sources(repo), UNFINISHED, stands_alone, "do it now, or write down where the plan has it")
}

/// Paths that exist on one machine. After a letter, a brace or a tilde it is part of a longer or a relative path.
pub(super) fn machine_paths(repo: &Repo) -> Vec<Finding> {
    let starts = |before: Option<char>, _| {
        before.is_none_or(|it| it.is_whitespace() || "\"'`([{<=:,;|/@-".contains(it))
    };
    search(
        repo.texts(),
        MACHINE,
        starts,
        "name no machine's folder; take it from a setting, or a temporary folder",
    )
}

/// Hosts of package registries, save where cargo itself writes them.
pub(super) fn registry_hosts(repo: &Repo) -> Vec<Finding> {
    let mend = "leave the host to the package manager's own settings";
    let written_by_cargo = |finding: &Finding| {
        finding.path.ends_with("Cargo.lock")
            && numbered(repo.text(&finding.path))
                .nth(finding.line - 1)
                .is_some_and(|(_, line)| line.starts_with("source = \"registry+"))
    };
    let mut findings = search(repo.texts(), REGISTRIES, |_, _| true, mend);
    findings.retain(|finding| !written_by_cargo(finding));
    findings
}

/// Every place of a needle that `counts`, given the characters before and after it.
fn search<'a>(
    texts: impl Iterator<Item = (&'a str, &'a str)>,
    needles: &[&str],
    counts: impl Fn(Option<char>, Option<char>) -> bool,
    mend: &str,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in texts {
        for needle in needles.iter().filter(|needle| text.contains(*needle)) {
            for (number, line) in numbered(text) {
                let found = line.match_indices(needle).any(|(at, _)| {
                    counts(line[..at].chars().next_back(), line[at + needle.len()..].chars().next())
                });
                if found {
                    findings.push(Finding::new(path, number, format!("`{needle}`"), mend));
                }
            }
        }
    }
    findings
}

/// Files that people write; golden files and what tools wrote are as they are.
fn sources(repo: &Repo) -> impl Iterator<Item = (&str, &str)> {
    repo.texts().filter(|(path, _)| {
        let written_by_hand = !path.split('/').any(|folder| folder == "golden" || folder == "generated");
        let endings =
            ["rs", "toml", "proto", "sql", "sh", "md", "html", "css", "js", "yml", "yaml", "conf", "service"];
        written_by_hand && (has_ending(path, &endings) || path.starts_with(".ci/"))
    })
}

fn has_ending(path: &str, endings: &[&str]) -> bool {
    path.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(findings: &[Finding]) -> Vec<(&str, usize)> {
        findings.iter().map(|finding| (finding.path.as_str(), finding.line)).collect()
    }

    #[test]
    fn a_long_file_is_found_unless_it_is_golden_or_prose() {
        let long = "let a = 1;\n".repeat(LONGEST + 1);
        let fits = "let a = 1;\n".repeat(LONGEST);
        let repo = Repo::of(&[
            ("a.rs", &long),
            ("b.rs", &fits),
            ("proto/golden/c.rs", &long),
            ("CHANGELOG.md", &long),
        ]);
        assert_eq!(places(&length(&repo)), [("a.rs", LONGEST + 1)]);
    }

    #[test]
    fn white_space_is_found_once_for_each_kind() {
        let repo = Repo::of(&[
            ("a.rs", "fine\n\tone\n\ttwo\n"),
            ("b.md", "fine\nnot fine \n"),
            ("c.toml", "a = 1\r\n"),
            ("d.sql", "select 1 \r\n"),
            ("proto/golden/e.md", "\t \r\n"),
            ("f.csv", "a\tb\r\n"),
        ]);
        let findings = white_space(&repo);
        assert_eq!(places(&findings), [("a.rs", 2), ("b.md", 2), ("c.toml", 1), ("d.sql", 1), ("d.sql", 1)]);
        assert_eq!(findings[0].wrong, "a tab, and in 1 more lines");
    }

    #[test]
    fn unfinished_work_is_found_as_a_word() {
        for mark in UNFINISHED {
            let alone = format!("fine\n    {mark}(\"later\")\n");
            let inside = format!("a{mark}\n_{mark}\n");
            let repo = Repo::of(&[("a.rs", &alone), ("b.rs", &inside), ("c.bin", &alone)]);
            assert_eq!(places(&unfinished(&repo)), [("a.rs", 2)], "{mark}");
        }
    }

    #[test]
    fn a_machine_path_is_found_in_any_text() {
        for folder in MACHINE {
            let bad = format!("fine\npath = \"{folder}main\"\n");
            let relative = format!("a{folder}b\n../docs{folder}\n~{folder}x\n{{dir}}{folder}x\n");
            let repo = Repo::of(&[("a.json", &bad), ("b.md", &relative)]);
            assert_eq!(places(&machine_paths(&repo)), [("a.json", 2)], "{folder}");
        }
    }

    #[test]
    fn a_registry_host_is_found_save_in_cargos_lock() {
        for host in REGISTRIES {
            let from = format!("name = \"a\"\nsource = \"registry+https://{host}/index\"\n");
            let other = format!("{from}note = \"https://{host}\"\n");
            let repo = Repo::of(&[("Cargo.lock", &other), ("docs/a.md", &from)]);
            assert_eq!(places(&registry_hosts(&repo)), [("Cargo.lock", 3), ("docs/a.md", 2)], "{host}");
        }
    }
}
