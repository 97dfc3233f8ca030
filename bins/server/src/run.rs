//! From settings to a server that runs, and from a signal to its end.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path;
use std::process::ExitCode;
use std::rc::Rc;

use fanfare_core::{Hub, Now, TaskId, Token, UserId, Wall};
use fanfare_websocket::{
    Api, ApiKey, ApiOptions, Credentials, Listener, Native, Shard, TokenKey, dev_token,
};
use smol::LocalExecutor;
use uuid::Builder;

use crate::assets;
use crate::logs;
use crate::open_files;
use crate::relaxed;
use crate::secrets::{self, SecretError, Secrets};
use crate::settings::Config;
use crate::shards::{self, Outlets};
use crate::signals::Endings;
use crate::sources::{ConfigError, Sources};
use crate::storage::{Disk, OpenError};
use crate::welcome::{Started, USERS, Welcome};

/// Why the server did not run.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The settings are at fault.
    Settings(Vec<ConfigError>),
    /// The machine is, as it is now.
    Start(StartError),
}

/// What kept a server with good settings from starting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{0}{hint}", hint = hint(.0))]
    Listen(#[from] fanfare_websocket::Error),
    #[error("no randomness from the system: {0}")]
    Random(getrandom::Error),
    #[error("can't watch sockets: {0}")]
    Sockets(io::Error),
    #[error("can't begin the threads of {shards} shards: {source}; choose fewer with --shards")]
    Threads { shards: u8, source: io::Error },
    #[error("can't watch for signals: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// What to do where an address can't be had.
const HINTS: [(io::ErrorKind, &str); 3] = [
    (
        io::ErrorKind::AddrInUse,
        "; another program has it: choose a port with --listen, or 0 for a free one",
    ),
    (
        io::ErrorKind::PermissionDenied,
        "; a port below 1024 needs a privilege: choose another one with --listen",
    ),
    (
        io::ErrorKind::AddrNotAvailable,
        "; no interface of this machine has that address",
    ),
];

fn hint(error: &fanfare_websocket::Error) -> &'static str {
    let fanfare_websocket::Error::Bind { source, .. } = error else {
        return "";
    };
    let hint = HINTS.iter().find(|(kind, _)| *kind == source.kind());
    hint.map_or("", |(_, hint)| hint)
}

/// Runs the server until a signal ends it.
///
/// # Errors
/// [`Failure`], before anything was served.
pub(crate) fn run(sources: &Sources) -> Result<ExitCode, Failure> {
    let config = &sources.config;
    let (credentials, secrets) = credentials(sources)?;
    logs::start(&config.log, config.log_format);
    serve(config, credentials, &secrets).map_err(Failure::Start)
}

fn credentials(sources: &Sources) -> Result<(Credentials, Secrets), Failure> {
    let config = &sources.config;
    let settings = |errors: Vec<SecretError>| {
        Failure::Settings(errors.into_iter().map(ConfigError::from).collect())
    };
    let secrets = Secrets::read(config, &sources.secrets).map_err(settings)?;
    let unfit = |variable, source| settings(vec![SecretError::Unfit { variable, source }]);
    let tokens = TokenKey::new(secrets.token_secret.as_bytes());
    let mut tokens = tokens.map_err(|error| unfit(secrets::TOKEN_SECRET.variable, error))?;
    if let Some(issuer) = &config.token_issuer {
        tokens = tokens.with_issuer(issuer);
    }
    if let Some(audience) = &config.token_audience {
        tokens = tokens.with_audience(audience);
    }
    let api_key =
        ApiKey::new(&secrets.api_key).map_err(|error| unfit(secrets::API_KEY.variable, error))?;
    Ok((Credentials { tokens, api_key }, secrets))
}

fn serve(
    config: &Config,
    credentials: Credentials,
    secrets: &Secrets,
) -> Result<ExitCode, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(StartError::Random)?;
    let executor = Rc::new(LocalExecutor::new());
    let verifier = credentials.clone();
    let verify = move |token: &Token, now: Now| verifier.client(token.expose(), now.wall);
    let limits = config.limits.clone();
    let native = Native::new().map_err(StartError::Sockets)?;
    let (shard, disk) = if config.memory {
        let hub = Hub::new(limits, seed);
        let shard = Shard::new(hub, native.clone(), config.socket, verify, &executor);
        (shard, None)
    } else {
        let disk = Disk::open(&config.data, config.durability, &limits, relaxed::boot())?;
        let hub = disk.restore(limits, seed)?;
        let (storage, socket) = (disk.clone(), config.socket);
        let shard = Shard::with_storage(hub, storage, native.clone(), socket, verify, &executor);
        let restored = native.block_on(&executor, shard.restored());
        restored.map_err(|failure| disk.unwritable(failure))?;
        (shard, Some(disk))
    };
    let shards = config.shards.unwrap_or_else(shards::cores);
    let outlets = Outlets::start(&shard, shards - 1, native.clock(), config.socket);
    let outlets = outlets.map_err(|source| StartError::Threads { shards, source })?;
    let listener = Listener::bind(config.listen.address, config.listener)?;
    let open_files = open_files::raise_limit();
    let mut endings = Endings::watch().map_err(StartError::Signals)?;
    let address = listener.local_addr();
    announce(config, address, &credentials, secrets, shard.now().wall)?;
    tracing::info!(%address, open_files, shards, "listening");
    let options = ApiOptions {
        origins: config.allowed_origins.clone(),
        body_bytes: config.limits.data_bytes,
        batch_bytes: config.batch_bytes,
        body_ms: config.publish_timeout_ms,
        dev: config.dev,
        assets: if config.dev {
            assets::with_page(Started::find().fanfare())
        } else {
            assets::client()
        },
    };
    let api = Api::new(shard.clone(), credentials, options);
    // As tasks: a future beside the executor is polled whenever a task wakes it, and would try an accept and a read each
    // time.
    let serving = listener.serve(shard.clone(), api);
    let serving = executor.spawn(serving.map_err(StartError::Sockets)?);
    let drain_ms = config.drain_timeout_ms;
    let ending = executor.spawn(async move {
        let signal = endings.next().await;
        tracing::info!(
            ?signal,
            connections = shard.connections(),
            "draining: a second signal ends it at once"
        );
        let drained = async {
            if shard.drain(drain_ms).await {
                tracing::info!("drained");
            } else {
                tracing::warn!(
                    connections = shard.connections(),
                    "not all clients left in time"
                );
            }
            if let Some(disk) = &disk {
                disk.close().await;
            }
            0
        };
        let at_once = async { endings.next().await.code() };
        let code = smol::future::or(drained, at_once).await;
        if let Some(disk) = &disk {
            disk.abandon();
        }
        code
    });
    let code = native.block_on(&executor, ending);
    drop((serving, executor));
    outlets.join();
    Ok(ExitCode::from(code))
}

/// Says on standard output everything that `--dev` has.
fn announce(
    config: &Config,
    address: SocketAddr,
    credentials: &Credentials,
    secrets: &Secrets,
    wall: Wall,
) -> Result<(), StartError> {
    if config.dev {
        // As a path that holds in any folder, where the system tells it.
        let data = (!config.memory).then(|| path::absolute(&config.data));
        let data = data.map(|data| data.unwrap_or_else(|_| config.data.clone()));
        let mut task = [0; 16];
        getrandom::fill(&mut task).map_err(StartError::Random)?;
        let tokens = USERS.map(|user| dev_token(&credentials.tokens, UserId::new(user), wall));
        let welcome = Welcome {
            address,
            secrets,
            tokens,
            task: TaskId::new(Builder::from_random_bytes(task).into_uuid()),
            started: Started::find(),
            data: data.as_deref(),
        };
        // Nobody may be reading; the server serves all the same.
        let _ = write!(io::stdout().lock(), "{welcome}");
        let _ = io::stdout().flush();
    }
    Ok(())
}
