"""Entry of `changeover init`."""

import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from agent.app.configuration.check import check
from agent.init import attempts, reading
from agent.init.answers import Answers, Product, text_of
from agent.init.place import Place, place_of
from agent.init.questions import NOTHING, Questions
from agent.messages.errors import EXIT_OK, MistakeError, TransientError
from agent.models.catalog import Catalog
from agent.models.keeping.copying import Release
from agent.models.store import Store
from agent.settings import CatalogSettings

_UNITS: Final = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_EXAMPLE: Final = "changeover.toml.example"
_PAGE: Final = "config/changeover.toml in the project"


@dataclass(frozen=True)
class Options:
    """Options of the command line; what is None or empty is asked for."""

    config: Path | None = None
    line: str | None = None
    products: tuple[str, ...] = ()
    camera: str | None = None
    camera_password_file: Path | None = None
    broker: str | None = None
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    device: str | None = None
    has_tries: bool = True
    """True: camera and broker are tried before the configuration is written."""


def run(options: Options, environ: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Ask for what is missing, try it, and write the configuration; pass the result to `say`, return the exit code."""
    place = place_of(options.config, environ)
    place.require_free()
    catalog = _catalog(place)
    answers = _Interview(options, place, catalog, Questions()).answers()
    place.prepare()
    written = _enter_models(place, answers.products)
    written += _write(place, answers, options, environ)
    for path in written:
        say(f"wrote {path}")
    say(f"\nNow check it, start the agent, and turn {answers.line} over to {answers.products[0].code}:")
    for line in _next_steps(place, answers):
        say(line)
    return EXIT_OK


class _Interview:
    """Takes each answer from the options, else asks for it, and tries it at once."""

    def __init__(self, options: Options, place: Place, catalog: Catalog, questions: Questions) -> None:
        self._options = options
        self._place = place
        self._catalog = catalog
        self._questions = questions
        self._answers = Answers(device=options.device)

    def answers(self) -> Answers:
        """Return all answers. Raises MistakeError for one that cannot be right, TransientError for one that failed."""
        if self._options.device is not None:
            self._answers.device = reading.read_line(self._options.device)
        self._ask_line()
        self._ask_products()
        self._ask_camera()
        self._ask_broker()
        return self._answers

    def _ask_line(self) -> None:
        given = self._options.line
        ask = partial(self._questions.ask_until, "Name of the line", "--line", reading.read_line, default="line-1")
        self._answers.line = reading.read_line(given) if given is not None else ask()

    def _ask_products(self) -> None:
        read = partial(reading.read_product, catalog=self._catalog)
        for text in self._options.products:
            self._add(read(text))
        if self._answers.products:
            return
        self._questions.say('Each product as CODE=FILE: what the PLC sends, and its model, such as "17=cap-check.onnx"')
        first = "Product=model"
        self._add(self._questions.ask_until(first, "--product", read))
        while True:
            text = self._questions.ask("Another one (Enter: no more)", "--product")
            if not text:
                return
            try:
                self._add(read(text))
            except MistakeError as error:
                self._questions.say(f"  {error}")

    def _add(self, product: Product) -> None:
        known = {one.code: one for one in self._answers.products}
        if product.code in known:
            raise MistakeError(f"the product {product.code} is given twice")
        for one in self._answers.products:
            is_other = one.file is not None and product.file is not None and not one.file.samefile(product.file)
            if one.reference == product.reference and is_other:
                wanted = f"{product.code}=NAME={product.file}"
                raise MistakeError(f"two files would be the model {product.reference}: name one of them, {wanted}")
        self._answers.products.append(product)

    def _ask_camera(self) -> None:
        given = self._options.camera
        if given is not None:
            if reading.has_password(given):
                words = (
                    "the password of --camera stands in this shell's history now; --camera-password-file keeps it out"
                )
                self._questions.say(words)
            self._take_camera(given)
            self._require(self._try_camera(), "the camera", "--camera")
            return
        question = "Camera: rtsp://..., http://..., /dev/video0, a video file or a folder of pictures"
        self._questions.ask_until(question, "--camera", self._take_camera, attempt=lambda _: self._try_camera())

    def _take_camera(self, text: str) -> str:
        source = reading.read_camera(text)
        user = reading.user_without_password(source)
        if user is not None:
            file = self._options.camera_password_file
            ask = partial(self._questions.ask_secret, f"Password of {user} at the camera", "--camera-password-file")
            source = reading.with_password(source, _secret_in(file) if file is not None else ask())
        self._answers.camera = source
        return source

    def _try_camera(self) -> bool:
        return not self._options.has_tries or attempts.try_camera(self._answers, self._place, self._questions.say)

    def _ask_broker(self) -> None:
        given = self._options.broker
        if given is not None:
            self._take_broker(given)
            self._require(self._try_broker(), "the broker", "--broker")
            return
        question = "Broker, mqtt://HOST or mqtts://HOST"
        self._questions.ask_until(
            question,
            "--broker",
            self._take_broker,
            default="mqtt://127.0.0.1:1883",
            attempt=lambda _: self._try_broker(),
        )

    def _take_broker(self, text: str) -> str:
        options, answers = self._options, self._answers
        answers.broker = reading.read_broker(text)
        answers.ca_file = options.ca_file.absolute() if options.ca_file is not None else None
        answers.username = options.username or ""
        if options.username is None and options.broker is None and answers.broker != "embedded":
            answers.username = self._questions.ask("User name there (Enter: none)", "--username")
        answers.password = None
        if options.password_file is not None:
            answers.password = _secret_in(options.password_file)
        elif answers.username:
            answers.password = self._questions.ask_secret(f"Password of {answers.username}", "--password-file")
        if answers.password is not None and not answers.username:
            raise MistakeError("--password-file needs --username, whose password it holds")
        return answers.broker

    def _try_broker(self) -> bool:
        return not self._options.has_tries or attempts.try_the_broker(self._answers, self._place, self._questions.say)

    def _require(self, is_well: bool, what: str, option: str) -> None:  # noqa: FBT001 - the one question
        if not is_well:
            raise TransientError(f"{NOTHING}: {what} of {option} failed, as above; --no-try writes it all the same")


def _secret_in(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise MistakeError(
            f"{path}: {getattr(error, 'strerror', None) or 'no text'}: expected a file with the password"
        ) from None
    if not secret:
        raise MistakeError(f"{path} is empty, expected a file with the password")
    return secret


def _catalog(place: Place) -> Catalog:
    file = place.file.parent / "models.toml"
    return Catalog.load(file) if file.exists() else Catalog(file)


def _enter_models(place: Place, products: list[Product]) -> list[str]:
    """Copy each model into the store and enter it in the catalog, as `models add` does; return what was written."""
    where = CatalogSettings.model_validate(place.own.get("catalog", {}), context={"base": place.file.parent})
    store = Store(where.file, where.store_dir)
    written = []
    entered = set()
    for product in products:
        if product.file is not None and str(product.reference) not in entered:
            entered.add(str(product.reference))
            version = store.add(Release(product.reference), product.file)
            written.append(f"{version.path}, entered as {version.reference} in {where.file}")
    return written


def _write(place: Place, answers: Answers, options: Options, environ: Mapping[str, str]) -> list[str]:
    """Write secrets and configuration if the configuration passes the check; return what was written.

    Raises MistakeError where it does not pass, or a file exists or cannot be written.
    """
    password_file = place.password_file(options.password_file, answers.password)
    example = place.file.with_name(_EXAMPLE)
    text = text_of(answers.tables(place.own, password_file), str(example) if example.exists() else _PAGE)
    secret = None
    with ExitStack() as undo:
        if answers.password is not None and (place.is_service or options.password_file is None):
            secret = place.keep_password(answers.password)
            if secret is not None:
                undo.callback(place.forget_password, secret)
        draft = place.draft(text)
        try:
            _require_right(draft, place, environ)
            place.keep(draft)
        finally:
            draft.unlink(missing_ok=True)
        undo.pop_all()
    return [*([str(secret)] if secret is not None else []), str(place.file)]


def _require_right(draft: Path, place: Place, environ: Mapping[str, str]) -> None:
    plain = {name: value for name, value in environ.items() if not name.startswith("CHANGEOVER_")}
    mistakes = check(draft, plain).mistakes
    if mistakes:
        words = "\n".join(str(one).replace(str(draft), str(place.file)) for one in mistakes)
        raise MistakeError(f"{words}\nThe configuration was not written")


def _next_steps(place: Place, answers: Answers) -> tuple[str, str, str]:
    """Return three commands to paste: check, start, and a first changeover."""
    command = _command()
    turn = f"{command} switch {shlex.quote(answers.line)} {shlex.quote(answers.products[0].code)}"
    if place.is_service:
        has_unit = any(Path(folder, "changeover.service").exists() for folder in _UNITS)
        start = "systemctl restart changeover" if has_unit and shutil.which("systemctl") else f"{command} run"
        config = "" if place.file == place.home / "changeover.toml" else f" --config {shlex.quote(str(place.file))}"
        return f"{command} check{config}", start + (config if start.endswith("run") else ""), turn + config
    config = f"--config {shlex.quote(str(place.file))}"
    return f"{command} check {config}", f"{command} run {config} &", f"{turn} {config}"


def _command() -> str:
    started = Path(sys.argv[0])
    if started.name == "changeover":
        return "changeover" if shutil.which("changeover") else shlex.quote(str(started.absolute()))
    return f"{shlex.quote(sys.executable)} -m agent"
