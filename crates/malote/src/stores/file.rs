//! Reads a file of stores.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use malote_client::{NewStore, PdvId, StoreId};
use malote_domain::GroupId;
use malote_domain::registry::{Cnpj, GROUPS_MAX, Name};

/// The time zone of a store that names none.
pub(crate) const ZONE: &str = "America/Sao_Paulo";
const COLUMNS: [&str; 6] = ["store", "name", "cnpj", "zone", "groups", "pdvs"];
/// More tills than any store has; a larger number is a mistake.
const PDVS_MAX: usize = 999;
const FAULTS_SHOWN: usize = 20;

/// A store as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRow {
    /// The line it is on.
    pub line: u64,
    /// The store.
    pub store: StoreId,
    /// What is known of it.
    pub details: NewStore,
}

/// Why a file of stores cannot be used. Nothing of it has been registered.
#[derive(Debug, thiserror::Error)]
pub enum StoresError {
    /// It cannot be read.
    #[error("{}: cannot be read; check the name and your right to read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not text.
    #[error("{}: is not UTF-8; if it is Latin-1, convert it first: iconv -f latin1 -t utf-8 FILE > NEW", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
    },
    /// It does not name the stores.
    #[error("{}: no column 'store'; the columns are {found}", path.display())]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What there is.
        found: String,
    },
    /// A header at most.
    #[error("{}: has no rows; write a header (store,name,cnpj,zone,groups,pdvs) and a line for each store", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Some lines are wrong.
    #[error("{}: no store was registered, for some lines are wrong{}", path.display(), listed(faults))]
    Rows {
        /// The file.
        path: PathBuf,
        /// The lines, and what is wrong with each.
        faults: Vec<(u64, String)>,
    },
}

fn listed(faults: &[(u64, String)]) -> String {
    let mut text = String::new();
    for (line, reason) in faults.iter().take(FAULTS_SHOWN) {
        // Writing to a String does not fail.
        let _ = write!(text, "\n  line {line}: {reason}");
    }
    if faults.len() > FAULTS_SHOWN {
        let _ = write!(text, "\n  and {} more", faults.len() - FAULTS_SHOWN);
    }
    text
}

/// The stores of a file, and what its reader should know though nothing is wrong.
pub fn read_stores(path: &Path) -> Result<(Vec<StoreRow>, Vec<String>), StoresError> {
    let read = |source| StoresError::Read { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(read)?;
    let text = String::from_utf8(bytes).map_err(|_| StoresError::NotUtf8 { path: path.to_owned() })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let header = text.lines().next().unwrap_or_default();
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(header))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let columns = reader.headers().map_err(|error| read(error.into()))?.clone();
    let columns: Vec<String> = columns.iter().map(str::to_lowercase).collect();
    if columns.iter().all(String::is_empty) {
        return Err(StoresError::Empty { path: path.to_owned() });
    }
    if !columns.iter().any(|name| name == "store") {
        return Err(StoresError::NoColumn { path: path.to_owned(), found: columns.join(", ") });
    }
    let unknown: Vec<&str> =
        columns.iter().map(String::as_str).filter(|name| !COLUMNS.contains(name)).collect();
    let mut notes = Vec::new();
    if !unknown.is_empty() {
        notes.push(format!("not known and left out: {}", unknown.join(", ")));
    }
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut lines: BTreeMap<StoreId, u64> = BTreeMap::new();
    for record in reader.records() {
        let record = record.map_err(|error| read(error.into()))?;
        let line = record.position().map_or(0, csv::Position::line);
        match row(&columns, &record, line) {
            Ok(row) => match lines.insert(row.store.clone(), line) {
                Some(first) => faults.push((line, format!("store {} is on line {first} already", row.store))),
                None => rows.push(row),
            },
            Err(reason) => faults.push((line, reason)),
        }
    }
    if !faults.is_empty() {
        return Err(StoresError::Rows { path: path.to_owned(), faults });
    }
    if rows.is_empty() {
        return Err(StoresError::Empty { path: path.to_owned() });
    }
    Ok((rows, notes))
}

/// What separates the columns: whatever the header has most of.
fn delimiter(header: &str) -> u8 {
    let count = |delimiter: u8| header.bytes().filter(|byte| *byte == delimiter).count();
    [b';', b'\t'].into_iter().fold(b',', |best, other| if count(other) > count(best) { other } else { best })
}

fn row(columns: &[String], record: &csv::StringRecord, line: u64) -> Result<StoreRow, String> {
    if record.len() != columns.len() {
        return Err(format!("expected {} columns as in the header, got {}", columns.len(), record.len()));
    }
    let cell = |name: &str| {
        let at = columns.iter().position(|column| column == name)?;
        record.get(at).filter(|text| !text.is_empty())
    };
    let store = cell("store").ok_or("the store has no code")?;
    let store = StoreId::parse(store).map_err(|error| error.to_string())?;
    let name = cell("name").map_or_else(|| format!("Loja {store}"), ToOwned::to_owned);
    let details =
        details(&name, cell("cnpj"), cell("zone"), cell("groups").unwrap_or(""), cell("pdvs").unwrap_or(""))?;
    Ok(StoreRow { line, store, details })
}

/// A store's details, checked as far as they can be here: the hub knows the time zones.
pub(super) fn details(
    name: &str,
    cnpj: Option<&str>,
    zone: Option<&str>,
    groups: &str,
    pdvs: &str,
) -> Result<NewStore, String> {
    let groups =
        words(groups).map(GroupId::parse).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    if groups.len() > GROUPS_MAX {
        return Err(format!("{} groups, and a store is in at most {GROUPS_MAX}", groups.len()));
    }
    Ok(NewStore {
        name: Name::parse(name).map_err(|error| error.to_string())?.as_str().to_owned(),
        cnpj: cnpj
            .map(Cnpj::parse)
            .transpose()
            .map_err(|error| error.to_string())?
            .map(|cnpj| cnpj.as_str().to_owned()),
        zone: zone.unwrap_or(ZONE).to_owned(),
        groups: groups.iter().map(ToString::to_string).collect(),
        pdvs: tills(pdvs)?,
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([';', ' ']).filter(|word| !word.is_empty())
}

/// A number without a zero before it is how many there are, called 01, 02 and so on; anything else are their names.
fn tills(text: &str) -> Result<Vec<String>, String> {
    let is_count = text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    if !text.is_empty() && is_count {
        let count: usize = text.parse().ok().filter(|count| *count <= PDVS_MAX).ok_or_else(|| {
            format!("{text} tills, and a store has at most {PDVS_MAX}; to name a single one, register it by `malote pdv add`")
        })?;
        return Ok((1..=count).map(|number| format!("{number:02}")).collect());
    }
    words(text)
        .map(|name| PdvId::parse(name).map(|pdv| pdv.to_string()).map_err(|error| error.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<(Vec<StoreRow>, Vec<String>), StoresError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stores.csv");
        std::fs::write(&path, text).unwrap();
        read_stores(&path)
    }

    fn faults(text: &str) -> Vec<(u64, String)> {
        match read(text) {
            Err(StoresError::Rows { faults, .. }) => faults,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn code_and_number_of_tills_are_enough() {
        let (rows, notes) = read("store,pdvs\n001,2\n002,1\n").unwrap();
        assert_eq!(notes, Vec::<String>::new());
        let row = &rows[0];
        assert_eq!((row.line, row.store.as_str()), (2, "001"));
        let expected = NewStore {
            name: "Loja 001".into(),
            cnpj: None,
            zone: ZONE.into(),
            groups: vec![],
            pdvs: vec!["01".into(), "02".into()],
        };
        assert_eq!(row.details, expected);
        assert_eq!((rows[1].line, rows[1].details.pdvs.len()), (3, 1));
    }

    #[test]
    fn everything_may_be_said_and_excel_may_have_written_it() {
        let text = "\u{feff}Store;Name;CNPJ;Zone;Groups;Pdvs;City\r\n\
                    7;Cuiabá;99.876.543/0001-34;America/Cuiaba;sul capitais;cx1 cx2;x\r\n";
        let (rows, notes) = read(text).unwrap();
        assert_eq!(notes, ["not known and left out: city"]);
        let details = &rows[0].details;
        assert_eq!(details.cnpj.as_deref(), Some("99876543000134"));
        assert_eq!(details.groups, ["sul", "capitais"]);
        assert_eq!(details.pdvs, ["cx1", "cx2"]);
        assert_eq!((details.name.as_str(), details.zone.as_str()), ("Cuiabá", "America/Cuiaba"));
    }

    #[test]
    fn quoted_cells_may_hold_the_delimiter() {
        let (rows, _) = read("store,name,groups\n1,\"Loja, a boa\",a;b\n").unwrap();
        assert_eq!(rows[0].details.name, "Loja, a boa");
        assert_eq!(rows[0].details.groups, ["a", "b"]);
    }

    #[test]
    fn every_wrong_line_is_named() {
        let found = faults(
            "store,name,cnpj,pdvs\n1,A,,1\nloja 2,B,,1\n,C,,1\n1,D,,1\n5,E,123,1\n6,F,,4000\n7,G\n8,H,,a*\n",
        );
        let lines: Vec<u64> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9]);
        for (at, text) in [
            (0, "loja 2"),
            (1, "no code"),
            (2, "line 2"),
            (3, "CNPJ"),
            (4, "4000"),
            (5, "4 columns"),
            (6, "a*"),
        ] {
            assert!(found[at].1.contains(text), "{}", found[at].1);
        }
    }

    #[test]
    fn a_long_list_of_faults_is_cut() {
        let text: String =
            std::iter::once("store\n".to_owned()).chain((0..25).map(|_| "?\n".to_owned())).collect();
        let said = read(text).unwrap_err().to_string();
        assert_eq!(said.lines().count(), 22);
        assert!(said.ends_with("and 5 more"), "{said}");
    }

    #[test]
    fn files_that_are_none() {
        assert!(matches!(read(""), Err(StoresError::Empty { .. })));
        assert!(matches!(read("store,name\n"), Err(StoresError::Empty { .. })));
        assert!(matches!(read("loja,name\n1,2\n"), Err(StoresError::NoColumn { .. })));
        assert!(matches!(read([0xff, 0xfe, 0x00]), Err(StoresError::NotUtf8 { .. })));
        assert!(matches!(read_stores(Path::new("/no/such/file")), Err(StoresError::Read { .. })));
    }

    #[test]
    fn tills_are_counted_or_named() {
        assert_eq!(tills("3").unwrap(), ["01", "02", "03"]);
        assert_eq!(tills("").unwrap(), Vec::<String>::new());
        assert_eq!(tills("0").unwrap(), Vec::<String>::new());
        assert_eq!(tills("07").unwrap(), ["07"]);
        assert_eq!(tills("a; b c").unwrap(), ["a", "b", "c"]);
    }
}
