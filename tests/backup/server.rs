//! A real database on this computer, as another user where this one is root, which it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rekiln::process::Run as _;
use rekiln::vm::verdict::free_ports;

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// That of the role `backup`.
pub const PASSWORD: &str = "a-password-of-nobody";

/// How long anything here may take on a busy computer.
const PATIENCE: Duration = Duration::from_mins(2);

pub struct Server {
    pub port: u16,
    data: PathBuf,
}

/// A directory that the other user can reach.
pub fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("set");
    dir
}

/// A program of the database (`apt-get install postgresql-15`).
fn program(name: &str) -> Command {
    let program = format!("{BIN}/{name}");
    let mut command = if rustix::process::geteuid().is_root() {
        let mut as_other = Command::new("setpriv");
        as_other.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", &program]);
        as_other
    } else {
        Command::new(program)
    };
    command.current_dir("/").env("LC_ALL", "C.UTF-8");
    command
}

fn own(dir: &Path) {
    if rustix::process::geteuid().is_root() {
        Command::new("chown").args(["-R", "postgres:postgres"]).arg(dir).run().expect("owned");
    }
}

impl Server {
    /// Makes one with a role for backups.
    pub fn new(data: &Path) -> Self {
        Self::at(data, "127.0.0.1")
    }

    /// Makes one that listens at these addresses of this machine, besides those of its own.
    pub fn at(data: &Path, addresses: &str) -> Self {
        fs::create_dir(data).expect("made");
        own(data);
        let mut initdb = program("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb
            .args(["--data-checksums", "--no-sync"])
            .arg(data)
            .run()
            .expect("made (`apt-get install postgresql-15`)");
        let rules = "local all all trust\nhost replication backup 127.0.0.0/8 scram-sha-256\n\
            host replication postgres 127.0.0.1/32 trust\nhost all postgres 127.0.0.1/32 trust\n";
        fs::write(data.join("pg_hba.conf"), rules).expect("written");
        let server = Self::started(data, addresses);
        server.ask(&format!("CREATE ROLE backup LOGIN REPLICATION PASSWORD '{PASSWORD}'"));
        server
    }

    /// Starts one over what is there.
    pub fn over(data: &Path) -> Self {
        Self::started(data, "127.0.0.1")
    }

    fn started(data: &Path, addresses: &str) -> Self {
        own(data);
        let port = free_ports(1).expect("a port")[0];
        let settings =
            format!("-p {port} -c listen_addresses={addresses} -c unix_socket_directories='' -c fsync=off");
        let mut start = program("pg_ctl");
        start.args(["start", "--wait", "--timeout=120", "--silent", "-o", &settings]);
        start.arg("-D").arg(data).arg("-l").arg(data.join("log"));
        start.run().unwrap_or_else(|error| {
            panic!("{}\n{}", error.chain(), fs::read_to_string(data.join("log")).unwrap_or_default())
        });
        Self { port, data: data.to_owned() }
    }

    /// Starts a replica.
    pub fn replica(&self, data: &Path) -> Self {
        fs::create_dir(data).expect("made");
        fs::set_permissions(data, fs::Permissions::from_mode(0o700)).expect("set");
        own(data);
        let mut copy = program("pg_basebackup");
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--username=postgres"]);
        copy.args(["--host=127.0.0.1", "--port", &self.port.to_string(), "--pgdata"]).arg(data);
        copy.run().expect("copied");
        Self::over(data)
    }

    pub fn ask(&self, statement: &str) -> String {
        let mut psql = program("psql");
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"]);
        psql.args(["--username=postgres", "--host=127.0.0.1", "--port", &self.port.to_string(), "--command"]);
        psql.arg(statement).run_text().expect("answered").trim().to_owned()
    }

    /// Waits for an answer.
    pub fn until(&self, statement: &str, expected: &str) {
        let start = Instant::now();
        while self.ask(statement) != expected {
            assert!(start.elapsed() < PATIENCE, "{statement} is never {expected}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ =
            program("pg_ctl").args(["stop", "--mode=immediate", "--silent", "-D"]).arg(&self.data).output();
    }
}
