"""What a new user gets wrong in .env or on the command line is named in a sentence, with the way out."""

import json
import threading

import pytest
from landing.core import commands
from landing.core.dates import parse_date, today
from landing.core.errors import SettingError

DAY = "2024-01-20"


def refused(result, *said):
    assert result.returncode == 1, result.text
    for one in said:
        assert one in result.text
    assert "Traceback" not in result.text
    assert "AssertionError" not in result.text
    return result.text


WRONG = {
    "host": ("HOST", "", "host (SOURCE_POSTGRES_HOST) is empty"),
    "port": ("PORT", "abc", "port (SOURCE_POSTGRES_PORT) is 'abc'; expected a number, such as 5432"),
    "user": ("USER", "", "user (SOURCE_POSTGRES_USER) is empty"),
    "database": ("DB", "", "database (SOURCE_POSTGRES_DB) is empty"),
    "ssl_mode": ("SSLMODE", "foo", "ssl_mode (SOURCE_POSTGRES_SSLMODE) is 'foo'; expected one of disable, allow"),
    "password": ("PASSWORD", "", "none is set: fill in SOURCE_POSTGRES_PASSWORD in .env"),
}


@pytest.mark.parametrize(("setting", "absent"), [(setting, absent) for setting, (_, value, _) in WRONG.items()
                                                 for absent in (False, True) if not (value and absent)])
def test_a_connection_that_cannot_be_valid_is_named_by_its_variable(shop, setting, absent):
    """Meltano leaves out a setting that is empty."""
    name, value, said = WRONG[setting]
    settings = shop.source.settings() | {"filter_schemas": ["public"], setting: value}
    if absent:
        del settings[setting]
    tap = [shop.tap_postgres()[0], "--config", shop.config(**settings)]
    for command in ([*tap, "--discover"], tap):
        refused(shop.run(command), said)
    target = [shop.target_postgres()[0], "--config", shop.config(**{
        key: one for key, one in settings.items() if key != "filter_schemas"})]
    if setting == "password":
        shop.land(DAY)  # the target logs in when something arrives
    refused(shop.pipe(shop.tap_landed(), target, check=False, EXTRACTED_AT=DAY), said.replace("SOURCE", "TARGET"))
    shown = shop.landing("certify", check=False, **{f"SOURCE_POSTGRES_{name}": value})
    refused(shown, said)


@pytest.fixture
def single(shop):
    """The source by a role that may have one connection."""
    shop.source.run("CREATE ROLE single LOGIN PASSWORD 'x' CONNECTION LIMIT 1; GRANT SELECT ON orders, notes TO single")
    yield {"user": "single", "password": "x"}
    shop.source.run("DROP OWNED BY single; DROP ROLE single")


def test_a_role_with_one_connection_is_told_which_setting_it_needs_and_can_extract_then(shop, single):
    failed = shop.pipe(shop.tap_postgres(**single), shop.target_csv(), check=False, DATESTAMP=DAY)
    refused(failed, "too many connections for role", "TAP_POSTGRES_CONNECTIONS=1")
    shop.pipe(shop.tap_postgres(**single, connections=1), shop.target_csv(), DATESTAMP=DAY)
    assert len(shop.manifest("postgres", DAY)["tables"]) == 2


def test_a_server_that_trusts_its_users_needs_no_password(shop, server):
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    shop.source.run("CREATE ROLE trusted LOGIN; GRANT SELECT ON orders, notes TO trusted")
    try:
        hba.write_text(f"host {shop.source.name} trusted 127.0.0.1/32 trust\n{before}")
        shop.source.run("SELECT pg_reload_conf()")
        settings = shop.source.settings() | {"filter_schemas": ["public"], "user": "trusted"}
        del settings["password"]
        tap = [shop.tap_postgres()[0], "--config", shop.config(**settings)]
        assert "public-orders" in shop.run([*tap, "--discover"]).stdout
        shop.pipe(tap, shop.target_csv(), DATESTAMP=DAY)
        assert "lossless" in shop.landing("certify", SOURCE_POSTGRES_USER="trusted",
                                          SOURCE_POSTGRES_PASSWORD="").stdout
    finally:
        hba.write_text(before)
        shop.source.run("SELECT pg_reload_conf()")
        shop.source.run("DROP OWNED BY trusted; DROP ROLE trusted")


def test_meltano_passes_on_a_port_that_is_no_number_instead_of_a_traceback(shop):
    result = shop.meltano("run", "extract_postgres", check=False, SOURCE_POSTGRES_PORT="abc")
    refused(result, "port (SOURCE_POSTGRES_PORT) is 'abc'; expected a number")


def test_a_load_in_the_environment_of_extracts_is_named_by_both_ends(shop):
    shop.land(DAY)
    tap = shop.tap_csv()
    for loaded in (False, True):
        if loaded:
            shop.load(DAY)
        result = shop.pipe(tap, shop.target_postgres(), check=False, EXTRACTED_AT=DAY, MELTANO_ENVIRONMENT="extract")
        run = f"MELTANO_ENVIRONMENT=load SCHEMA=public EXTRACTED_AT={DAY} meltano run load_to_postgres"
        text = refused(result, f"EXTRACTED_AT={DAY} is the date of a load; an extract uses DATESTAMP, which is unset",
                       "target-postgres loads landed dates, and this tap sends an extract: MELTANO_ENVIRONMENT is "
                       "extract")
        assert text.count(run) == 2


def test_an_extract_in_the_environment_of_loads_is_named_by_both_ends(shop):
    result = shop.pipe(shop.tap_landed(), shop.target_csv(), check=False, DATESTAMP=DAY, MELTANO_ENVIRONMENT="load")
    refused(result, f"DATESTAMP={DAY} is the date of an extract; a load uses EXTRACTED_AT, which is unset",
            "To extract that date, set MELTANO_ENVIRONMENT=extract (MELTANO_ENVIRONMENT is load, in which tap-csv "
            "reads the landing zone)")
    shop.land(DAY)
    result = shop.pipe(shop.tap_landed(), shop.target_csv(), check=False, EXTRACTED_AT=DAY,
                       MELTANO_ENVIRONMENT="load")
    refused(result, "from the landing zone, and target-csv lands extracts: MELTANO_ENVIRONMENT is load")


def test_the_job_of_a_load_works_in_any_environment(shop):
    shop.land(DAY)
    text = shop.meltano("run", "load_to_postgres", EXTRACTED_AT=DAY, MELTANO_ENVIRONMENT="extract").text
    assert f"Loaded postgres, csv of {DAY} into public" in text


def test_a_tap_that_died_is_the_last_thing_said(shop):
    """Also where nothing that the tap sent says which source it was to land."""
    result = shop.pipe(["false"], shop.target_csv(), check=False, DATESTAMP=DAY, MELTANO_EXTRACTOR_NAME="tap-unknown")
    assert result.returncode == 1
    last = result.text.strip().splitlines()[-1]
    assert "The input ended without the tap's completion message: the tap died" in last
    assert "SOURCE is unset" not in result.text


@pytest.mark.parametrize(("text", "meant"), [("20240120", DAY), ("2024/01/20", DAY), ("2024-1-20", DAY),
                                             ("20.01.2024", None), ("yesterday", None), ("2024-02-30", None)])
def test_a_date_in_another_form_is_answered_with_the_right_one(text, meant):
    with pytest.raises(SettingError) as error:
        parse_date(text, "DATE")
    assert f"such as {meant or today()}." in str(error.value)
    assert "unset" not in str(error.value)


COMMANDS = [("certify",), ("list",), ("show", "20240120"), ("plan", "--from", "20240120", "--to", DAY),
            ("verify", "20240120"), ("status",), ("diff", DAY, "20240120"), ("gc",), ("drop", "20240120")]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_refusal_is_one_json_object_where_json_was_asked_for(shop, command):
    variables = {"SOURCE_POSTGRES_PORT": "abc"} if command == ("certify",) else {}
    if command in (("list",), ("gc",), ("status",)):
        variables = {"LANDING_ROOT": "https://bucket"}
    result = shop.landing(*command, "--json", check=False, **variables)
    assert result.returncode == 1
    error = json.loads(result.stdout)["error"]
    assert error["class"] == "SettingError"
    assert error["message"] in result.stderr


def test_the_json_of_a_refusal_has_the_commands_to_run(shop):
    error = json.loads(shop.landing("verify", DAY, "--json", check=False).stdout)["error"]
    assert error["class"] == "NotLandedError"
    assert error["run"] == [f"MELTANO_ENVIRONMENT=extract SOURCE={source} DATESTAMP={DAY} meltano run extract_{source}"
                            for source in ("postgres", "csv")]
    unreachable = json.loads(shop.landing("diff", DAY, DAY, "--json", check=False, TARGET_POSTGRES_PORT="1").stdout)
    assert unreachable["error"]["class"] == "UnreachableError"


def test_a_result_with_a_failure_stays_the_only_json(shop):
    shop.land(DAY)
    result = shop.landing("verify", DAY, "--json", check=False)
    assert result.returncode == 1
    assert {one["equal"] for one in json.loads(result.stdout)} == {False}


@pytest.mark.parametrize(("message", "run"), [
    (f"Nothing was loaded. Run again: {commands.load_command(DAY, 'a b')}",
     [f"MELTANO_ENVIRONMENT=load SCHEMA='a b' EXTRACTED_AT={DAY} meltano run load_to_postgres"]),
    ("To repair it, run: REEXTRACT=true A=1 meltano run extract_x && RELOAD=true meltano run load_to_postgres.",
     ["REEXTRACT=true A=1 meltano run extract_x", "RELOAD=true meltano run load_to_postgres"]),
    ("Check with `landing verify 2024-01-20`, or run make demo.", ["landing verify 2024-01-20", "make demo"]),
    ("Correct it and run again.", []),
])
def test_commands_are_found_in_messages(message, run):
    assert commands.named(message) == run


def test_a_schema_that_does_not_exist_is_named_beside_one_that_does(inside):
    inside.project.source.run("CREATE SCHEMA sales")
    text = inside.extract(DAY, check=False, filter_schemas=["public", "sale"]).text
    assert f"filter_schemas: database {inside.project.source.name} has no schema sale. It has: public, sales" in text
    certified = inside.project.landing("certify", check=False, TAP_POSTGRES_FILTER_SCHEMAS='["public", "sale"]')
    assert "has no schema sale" in certified.stderr


PATTERNS = {
    "public-order.*": "'public-order.*' matches nothing: the source has no table 'public-order' (streams are named "
                      "<schema>-<table>). Is it public-orders",
    "!public-orders.costumer": "public-orders has no column 'costumer' (streams are named <schema>-<table>). Is it "
                               "customer?",
    "orders.*": "the source has no table 'orders'",
    "!*.secret": "has no column 'secret'",
}


@pytest.mark.parametrize("pattern", [*PATTERNS])
def test_a_pattern_of_select_that_matches_nothing_is_named(inside, monkeypatch, pattern):
    monkeypatch.setenv("MELTANO_EXTRACT__SELECT", json.dumps(["*.*", pattern]))
    assert PATTERNS[pattern] in inside.extract(DAY, check=False).text
    assert not inside.project.landed()


@pytest.mark.parametrize("patterns", [["*.*"], ["public-*.*", "!public-x*.*"], ["public-orders.customer*", "!*.s?cret"],
                                      ["public-orders"]])
def test_patterns_that_may_match_nothing_are_no_typo(inside, monkeypatch, patterns):
    monkeypatch.setenv("MELTANO_EXTRACT__SELECT", json.dumps(patterns))
    inside.extract(DAY)


def test_the_documented_variable_selects_and_meltano_passes_its_patterns_on(shop):
    shop.meltano("run", "extract_postgres", DATESTAMP=DAY, TAP_POSTGRES__SELECT='["public-orders.*"]')
    assert [table["name"] for table in shop.manifest("postgres", DAY)["tables"]] == ["orders"]
    refused(shop.meltano("run", "extract_postgres", check=False, DATESTAMP="2024-01-21",
                         TAP_POSTGRES__SELECT='["public-orders.*", "!public-orders.costumer"]'),
            "has no column 'costumer'")


def test_two_dates_by_hand_at_once(shop, tmp_path):
    """As docs/how-to/sources.md says it."""
    ended = []

    def run(day):
        ended.append(shop.meltano("run", f"--state-id-suffix={day}", "extract_postgres", DATESTAMP=day,
                                  MELTANO_SYS_DIR_ROOT=str(tmp_path / f"own-{day}"), check=False))

    runs = [threading.Thread(target=run, args=(day,)) for day in (DAY, "2024-01-21")]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert [one.returncode for one in ended] == [0, 0], ended[0].text + ended[1].text
    assert shop.manifest("postgres", DAY)
    assert shop.manifest("postgres", "2024-01-21")


def test_a_load_needs_two_connections_at_least(shop):
    shop.land(DAY)
    shop.warehouse.run("CREATE ROLE pair LOGIN PASSWORD 'x' CONNECTION LIMIT 2; GRANT CREATE ON SCHEMA public TO pair")
    shop.warehouse.run(f"GRANT CREATE ON DATABASE {shop.warehouse.name} TO pair")
    try:
        role = {**shop.warehouse.settings(), "user": "pair", "password": "x"}
        target = [shop.target_postgres()[0], "--config", shop.config(**role)]
        refused(shop.pipe(shop.tap_landed(), target, check=False, EXTRACTED_AT=DAY), "two with TARGET_POSTGRES_CONN")
        target = [shop.target_postgres()[0], "--config", shop.config(**role, connections=1)]
        shop.pipe(shop.tap_landed(), target, EXTRACTED_AT=DAY)
    finally:
        shop.warehouse.run("DROP OWNED BY pair CASCADE; DROP ROLE pair")
