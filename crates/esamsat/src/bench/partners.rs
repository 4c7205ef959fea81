//! Who calls: one partner, or many whose names are numbered. Flags that every load shares.

use super::target::Credentials;
use clap::Args;

/// The flags.
#[derive(Args)]
pub(crate) struct Partners {
    /// Spread over so many partners, made before by `esamsat sandbox partners`
    #[arg(id = "partners", long = "partners", value_name = "COUNT", requires = "password", conflicts_with = "username",
          value_parser = clap::value_parser!(u16).range(1..=9_999))]
    pub(super) count: Option<u16>,

    /// The partners' names: this and a number of four digits
    #[arg(
        id = "partner-prefix",
        long = "partner-prefix",
        value_name = "PREFIX",
        default_value = "beban",
        requires = "partners"
    )]
    prefix: String,

    /// One hot partner of this name [default: dummy]
    #[arg(long, requires = "password")]
    username: Option<String>,

    /// The password of the partner, or of all of them [default: dummy123]
    #[arg(long)]
    password: Option<String>,
}

impl Partners {
    /// All of them, at least one.
    pub(super) fn credentials(&self) -> Vec<Credentials> {
        let password = self.password.as_deref().unwrap_or("dummy123");
        match self.count {
            Some(count) => (1..=count)
                .map(|number| Credentials::new(&format!("{}{number:04}", self.prefix), password))
                .collect(),
            None => vec![Credentials::new(self.username.as_deref().unwrap_or("dummy"), password)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        partners: Partners,
    }

    #[test]
    fn partners_are_numbered_with_four_digits() {
        let names = |line: &str| {
            let cli = Cli::try_parse_from(["load"].into_iter().chain(line.split_whitespace())).unwrap();
            cli.partners.credentials().into_iter().map(|c| c.username).collect::<Vec<_>>()
        };
        assert_eq!(names("--partners 2 --password rahasia"), ["beban0001", "beban0002"]);
        assert_eq!(names(""), ["dummy"]);
        assert_eq!(names("--username mitra --password rahasia"), ["mitra"]);
    }
}
