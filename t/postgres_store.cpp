// postgres_store -- the promises of stores, kept by PostgreSQL, and what only it can get into; where NET_SMTP_POSTGRES
// says how to connect to one (t/interop/store_postgres.py).
#include "../Relay/PostgresStore.hpp"

#include <doctest/doctest.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "../Relay/PostgresMail.hpp"
#include "sanitized.hpp"
#include "store_conformance.hpp"

using namespace test::stores;

namespace {

const char* const database = std::getenv("NET_SMTP_POSTGRES");

// Somebody at a console.
class Console {
public:
    explicit Console(const std::string& schema = "public") {
        PQsetNoticeProcessor(
            connection_.get(), [](void*, const char*) {}, nullptr);
        (*this)("SET search_path = " + schema);
    }
    // The first field of the last statement's first row.
    std::string operator()(const std::string& statements) const {
        const std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(connection_.get(), statements.c_str()),
                                                                   PQclear);
        const auto status = PQresultStatus(result.get());
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
            throw std::runtime_error(PQerrorMessage(connection_.get()));
        return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
    }

private:
    std::unique_ptr<PGconn, decltype(&PQfinish)> connection_{PQconnectdb(database), PQfinish};
};

// A schema that nobody has used.
class InPostgres : public StorePlace {
public:
    InPostgres() {
        static std::atomic<int> count{0};
        options.schema = "test_" + std::to_string(getpid()) + "_" + std::to_string(++count);
        options.lease = 10s;  // longer than anything here may take by itself
    }
    ~InPostgres() override { Console()("DROP SCHEMA IF EXISTS " + options.schema + " CASCADE"); }
    std::unique_ptr<Store> open() override { return std::make_unique<PostgresStore>(database, options); }
    bool one_leader() const override { return false; }

    // From now on every new message is refused by the database with that SQLSTATE, the first `times` times.
    void trouble(const std::string& state, int times) const {
        Console(options.schema)(
            "CREATE SEQUENCE troubles; CREATE FUNCTION trouble() RETURNS trigger AS $$ BEGIN"
            " IF nextval('troubles') <= " +
            std::to_string(times) + " THEN RAISE EXCEPTION 'trouble' USING ERRCODE = '" + state +
            "'; END IF; RETURN NEW; END $$ LANGUAGE plpgsql; CREATE TRIGGER trouble BEFORE INSERT"
            " ON message FOR EACH ROW EXECUTE FUNCTION trouble()");
    }

    PostgresStore::Options options;
};

std::unique_ptr<StorePlace> new_place() { return std::make_unique<InPostgres>(); }

// What a sender hears when it can't be done; code 250 when it can.
Reply refusal(const std::function<void()>& action, std::string* what = nullptr) {
    try {
        action();
    } catch (const StoreError& e) {
        if (what) *what = e.what();
        return e.reply();
    }
    return {};
}

// Ends the connections of all stores.
void cut_all() {
    Console()(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'net-smtp-queue'");
}

long in_kib(const char* file, const std::string& field) {
    std::ifstream status(file);
    for (std::string word; status >> word;)
        if (long value = 0; word == field + ":" && status >> value) return value;
    return -1;
}

}  // namespace

TEST_SUITE_BEGIN("postgres" * doctest::skip(database == nullptr));

STORE_KEEPS_ITS_PROMISES("PostgreSQL", new_place)
STORE_KEEPS_ITS_PROMISES_TO_PROCESSES("PostgreSQL", new_place)

TEST_CASE("64 threads put, and what is refused to one of them spoils nothing of the others") {
    InPostgres place;
    const auto store = place.open();
    store->put(letter("there"));
    at_once(64, [&](int thread) {
        for (int i = 0; i < 10; ++i) {
            store->put(letter(std::to_string(thread) + "." + std::to_string(i)));
            MUST(refused([&] { store->put(letter("there")); }));
        }
    });
    CHECK(store->stats().messages == 641);
}

TEST_CASE("two processes claim from one queue and have nothing twice") {
    InPostgres place;
    const auto store = place.open();
    for (int i = 0; i < 60; ++i) {
        auto mail = letter("m" + std::to_string(i));
        mail.to = recipients(5, "example.org");
        store->put(mail);
    }
    std::array<int, 2> ends{};
    REQUIRE(pipe(ends.data()) == 0);
    std::vector<std::unique_ptr<Child>> children;
    for (int child = 0; child < 2; ++child)
        children.push_back(std::make_unique<Child>([&] {
            at_once(4, [&](int) {
                for (std::vector<QueueTask> tasks; !(tasks = claim(*store, "example.org", 3)).empty();)
                    for (const auto& task : tasks)
                        for (const auto& to : task.to) {
                            const auto which = std::uint32_t(task.message * 5 + to.number);
                            MUST(write(ends[1], &which, sizeof which) == sizeof which);
                        }
            });
            return true;
        }));
    close(ends[1]);
    std::vector<std::uint32_t> seen;
    for (std::uint32_t which = 0; read(ends[0], &which, sizeof which) == sizeof which;) seen.push_back(which);
    close(ends[0]);
    for (const auto& child : children) CHECK(child->well());
    CHECK(seen.size() == 300);
    std::ranges::sort(seen);
    CHECK(std::ranges::adjacent_find(seen) == seen.end());
}

TEST_CASE("what a frozen process has goes to others, and nothing it says when it thaws changes anything") {
    InPostgres place;
    place.options.lease = 1s;
    const auto store = place.open();
    store->put(letter("m", {"a@example.org", "b@example.org"}));
    Child child([&] {
        const auto mine = place.open();
        const auto task = only(claim(*mine));
        raise(SIGSTOP);
        mine->give_back(task);
        return !finish(*mine, task) && !record(*mine, task, {later(0, queue_now())}, {letter("notice")});
    });
    CHECK(in_the_end([&] { return store->item("m")->in_flight(); }));
    std::vector<QueueTask> tasks;
    CHECK(in_the_end([&] { return !(tasks = claim(*store)).empty(); }));
    const auto task = only(tasks);
    CHECK(task.to.size() == 2);
    CHECK(task.to[0].attempts == 0);
    store->beat();
    kill(child.id(), SIGCONT);
    CHECK(child.well());
    CHECK(!store->item("notice"));
    CHECK(store->item("m")->to.size() == 2);
    CHECK(finish(*store, task));
    CHECK(store->stats().messages == 0);
}

TEST_CASE("who freezes in the middle of a transaction, whatever it has sent of it, does not keep its mail for ever") {
    InPostgres place;
    place.options.lease = place.options.time_out = 1s;
    const auto owner = place.open();
    owner->put(letter("m"));
    const auto task = only(claim(*owner));
    // A connection of its own stands for the owner's: it has sent half of what it was to send.
    const std::unique_ptr<PGconn, decltype(&PQfinish)> frozen(PQconnectdb(database), PQfinish);
    REQUIRE(PQenterPipelineMode(frozen.get()) == 1);
    for (const auto& statement : {std::string("BEGIN"), "SET search_path = " + place.options.schema,
                                  std::string("SELECT FROM recipient FOR UPDATE")})
        REQUIRE(PQsendQueryParams(frozen.get(), statement.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0) == 1);
    REQUIRE(PQsendFlushRequest(frozen.get()) == 1);
    REQUIRE(PQflush(frozen.get()) == 0);
    const Console console(place.options.schema);
    REQUIRE(in_the_end(
        [&] { return console("SELECT count(*) FROM (SELECT FROM recipient FOR UPDATE SKIP LOCKED) free") == "0"; }));
    const auto other = place.open();
    CHECK(in_the_end([&] { return !claim(*other).empty(); }));
    CHECK(!finish(*owner, task));
}

TEST_CASE("after the database's start a lease that has run out stays for the time of one: it may have been away") {
    InPostgres place;
    const auto store = [&](std::chrono::milliseconds lease) {
        place.options.lease = lease;
        return place.open();
    };
    const auto owner = store(1s);
    owner->put(letter("m"));
    const auto task = only(claim(*owner));
    const Console console(place.options.schema);
    REQUIRE(in_the_end(
        [&] { return console("SELECT lease < extract(epoch FROM clock_timestamp()) * 1000 FROM recipient") == "t"; }));
    if (console("SELECT clock_timestamp() < pg_postmaster_start_time() + interval '23 hours'") == "t")
        CHECK(claim(*store(24h)).empty());
    const auto other = store(1s);
    CHECK(in_the_end([&] { return !claim(*other).empty(); }));
    CHECK(!finish(*owner, task));
}

TEST_CASE("to beat makes leases longer") {
    InPostgres place;
    const auto store = place.open();
    store->put(letter("m"));
    (void)only(claim(*store));
    const Console console(place.options.schema);
    const auto before = std::stoll(console("SELECT lease FROM recipient"));
    CHECK(in_the_end([&] {
        store->beat();
        return std::stoll(console("SELECT lease FROM recipient")) > before;
    }));
    CHECK(store->beat_interval() == 2500ms);
    CHECK(store->surely_ours() <= std::chrono::steady_clock::now() + 10s);
    CHECK(place.open()->surely_ours() == std::chrono::steady_clock::time_point::max());
}

TEST_CASE("when connections break the callers hear 451, and the next call has a new one") {
    InPostgres place;
    const auto store = place.open();
    std::atomic<bool> over{false};
    std::atomic<int> put{0}, broken{0};
    std::thread writers([&] {
        at_once(8, [&](int thread) {
            for (int i = 0; !over; ++i) {
                const auto reply =
                    refusal([&] { store->put(letter(std::to_string(thread) + "." + std::to_string(i))); });
                MUST(reply.code == 250 || (reply.code == 451 && reply.status == "4.3.0"));
                ++(reply.code == 250 ? put : broken);
            }
        });
    });
    for (int i = 0; i < 20; ++i) {
        const int before = put;
        CHECK(in_the_end([&] { return put > before; }));
        cut_all();
    }
    over = true;
    writers.join();
    // A commit whose answer was lost may have been one all the same.
    int there = -1;
    CHECK(in_the_end([&] { return refusal([&] { there = int(store->stats().messages); }).code == 250; }));
    CHECK(there >= put);
    CHECK(there <= put + broken);
}

TEST_CASE("a connection that died while nobody used it is not noticed by anybody") {
    InPostgres place;
    const auto store = place.open();
    store->put(letter("m"));
    CHECK(claim(*store).size() == 1);
    cut_all();
    CHECK(in_the_end([] {
        return Console()("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'net-smtp-queue'") == "0";
    }));
    CHECK(store->item("m").has_value());
    store->put(letter("n"));
    CHECK(claim(*store).size() == 1);
}

TEST_CASE("without a database each call ends with 451, and no password is in what is said of it") {
    PostgresStore store("postgresql://mail:sesame@127.0.0.1:1/spool");
    CHECK(store.name() == "postgresql:spool@127.0.0.1");
    CHECK(store.lead());
    for (const auto& call : std::vector<std::function<void()>>{
             [&] { store.put(letter("m")); }, [&] { (void)store.claim("example.org", queue_now(), 1); },
             [&] { (void)store.changed(); }, [&] { (void)store.stats(); }, [&] { store.set("a", "b"); }}) {
        std::string what;
        const auto reply = refusal(call, &what);
        CHECK(reply.code == 451);
        CHECK(reply.status == "4.3.0");
        CHECK(what.find("sesame") == what.npos);
        CHECK(what.find("127.0.0.1") != what.npos);
    }
}

TEST_CASE("Kerberos is left alone by who has not asked for it") {
    const int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(bind(door, reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(listen(door, 5) == 0);
    REQUIRE(getsockname(door, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    std::thread hangs_up([&] {
        for (int one; (one = accept(door, nullptr, nullptr)) >= 0;) close(one);
    });
    std::string settings = "/tmp/krb5-XXXXXX";
    close(mkstemp(settings.data()));
    std::ofstream(settings) << "[libdefaults]\n";
    setenv("KRB5_CONFIG", settings.c_str(), 1);
    const int seen = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    REQUIRE(inotify_add_watch(seen, settings.c_str(), IN_OPEN) > 0);
    const auto looks = [&](const std::string& more) {
        PostgresStore store("postgresql://mail@127.0.0.1:" + std::to_string(ntohs(at.sin_port)) + "/spool" + more);
        CHECK(refusal([&] { (void)store.stats(); }).code == 451);
        char events[4096];
        return read(seen, events, sizeof events) > 0;
    };
    CHECK(!looks(""));
    CHECK(looks("?gssencmode=prefer"));
    unsetenv("KRB5_CONFIG");
    shutdown(door, SHUT_RDWR);
    hangs_up.join();
    for (const int each : {door, seen}) close(each);
    std::remove(settings.c_str());
}

TEST_CASE("options and connection strings that make no sense are refused, without saying them") {
    for (const char* wrong : {"postgresql://mail:sesame@[", "sesame", "host='sesame", "sesame=1"}) {
        try {
            PostgresStore store(wrong);
            FAIL(wrong);
        } catch (const std::invalid_argument& e) {
            CHECK(std::string(e.what()).find("sesame") == std::string::npos);
        }
    }
    for (const char* schema : {"", "a-b", "x; DROP TABLE y", "pg_x", "1a", "A"})
        CHECK(refused([&] { PostgresStore("dbname=x", {.schema = schema}); }));
    CHECK(refused([] { PostgresStore("dbname=x", {.lease = 999ms}); }));
    CHECK(refused([] { PostgresStore("dbname=x", {.time_out = 999ms}); }));
    CHECK(refused([] { PostgresStore("dbname=x", {.connections = 0}); }));
    CHECK(PostgresStore("dbname=x host=a,b", {.lease = 1s, .time_out = 1s, .connections = 1}).name() ==
          "postgresql:x@a,b");
}

TEST_CASE("where the database has no room a sender hears 452, and it goes on when there is some") {
    InPostgres place;
    const auto store = place.open();
    store->put(letter("m"));
    place.trouble("53100", 2);
    for (const std::size_t size : {100, 300'000}) {
        auto mail = letter("n");
        mail.text = Message(binary(size));
        const auto reply = refusal([&] { store->put(mail); });
        CHECK(reply.code == 452);
        CHECK(reply.status == "4.3.1");
    }
    CHECK(!store->item("n"));
    store->put(letter("n"));
    CHECK(store->item("n").has_value());
}

TEST_CASE("what loses against another transaction is tried again, some times") {
    InPostgres place;
    const auto store = place.open();
    store->put(letter("m"));
    place.trouble("40P01", 3);
    store->put(letter("n"));
    CHECK(store->item("n").has_value());
    Console(place.options.schema)("SELECT setval('troubles', 1, false)");
    auto large = letter("large");
    large.text = Message(binary(300'000));
    store->put(large);
    CHECK(store->look("large")->view() == large.head + binary(300'000));
    Console(place.options.schema)("DROP TRIGGER trouble ON message; DROP FUNCTION trouble; DROP SEQUENCE troubles");
    place.trouble("40001", 1000);
    CHECK(refusal([&] { store->put(letter("o")); }).code == 451);
}

TEST_CASE("a database that does not answer is waited for so long and no longer") {
    InPostgres place;
    place.options.time_out = 2s;
    const auto store = place.open();
    store->put(letter("m"));
    const Console blocker(place.options.schema);
    blocker("BEGIN; LOCK TABLE message, recipient");
    auto large = letter("large");
    large.text = Message(binary(300'000));
    CHECK(refusal([&] { store->put(letter("n")); }).code == 451);
    CHECK(refusal([&] { store->put(large); }).code == 451);
    CHECK(refusal([&] { (void)claim(*store); }).code == 451);
    CHECK(refusal([&] { (void)store->stats(); }).code == 451);
    blocker("COMMIT");
    CHECK(in_the_end([&] { return refusal([&] { store->put(letter("n")); }).code == 250; }));
    std::size_t claimed = 0;
    CHECK(in_the_end([&] {
        (void)refusal([&] { claimed += claim(*store).size(); });
        return claimed == 2;
    }));
}

TEST_CASE("a large text goes there and back in constant memory") {
    InPostgres place;
    const auto store = place.open();
    constexpr std::size_t size = 64 << 20;
    auto mail = letter("m", {"bert@example.com"});
    {
        auto content = std::make_shared<Content>(nullptr);
        content->file = unnamed_file("/tmp");
        const auto piece = binary(1 << 20);
        for (std::size_t done = 0; done < size; done += piece.size())
            write_all(content->file.get(), piece.data(), piece.size());
        content->size = size;
        mail.text = Message(content);
    }
    store->put(letter("small"));
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak is from now on
    const auto before = in_kib("/proc/self/status", "VmRSS");
    store->put(mail);
    const auto text = store->text(only(claim(*store, "example.com")));
    const auto grown = in_kib("/proc/self/status", "VmHWM") - before;
    CHECK(text.size() == size);
    CHECK(text.spooled());
    if (!test::sanitized) CHECK(grown < 12 * 1024);
    std::string a(1 << 20, ' '), b(1 << 20, ' ');
    for (std::size_t at = 0; at < size; at += a.size()) {
        REQUIRE(text.read(at, a.data(), a.size()) == a.size());
        REQUIRE(mail.text.read(at, b.data(), b.size()) == b.size());
        REQUIRE(a == b);
    }
}

TEST_CASE("many thousands that wait are flushed, counted and looked at by pages") {
    InPostgres place;
    const auto store = place.open();
    CHECK(store->stats().messages == 0);
    Console(place.options.schema)(
        "INSERT INTO message (id, from_local, from_domain, flags, head, size, arrived, held)"
        " SELECT n::text::bytea, 'a', 'example.net', 0, '', 0, n, false FROM generate_series(1, 25000) n;"
        "INSERT INTO recipient (message, number, destination, to_local, to_domain, notify, due, held)"
        " SELECT number, 0, ('d' || (number % 2))::bytea, 'b', 'D', 0, " +
        std::to_string((queue_now() + 10h).time_since_epoch().count()) + ", false FROM message");
    const auto stats = store->stats();
    CHECK(stats.messages == 25'000);
    CHECK(stats.recipients == 25'000);
    CHECK(stats.oldest == QueueTime(1ms));
    CHECK(names(store->domains(std::nullopt, 10)) == std::vector<std::string>{"d0", "d1"});
    CHECK(store->claim("d0", queue_now(), 1).empty());
    CHECK(store->flush_domain("d0") == 12'500);
    CHECK(store->flush_domain("d0") == 12'500);
    CHECK(store->claim("d0", queue_now(), 100).size() == 100);
    CHECK(store->claim("d1", queue_now(), 1).empty());
    CHECK(store->flush_all() == 24'900);
    CHECK(store->claim("d1", queue_now(), 100).size() == 100);
    std::size_t seen = 0;
    for (std::vector<QueueItem> page; !(page = store->items(page.empty() ? 0 : page.back().message, 10'000)).empty();)
        seen += page.size();
    CHECK(seen == 25'000);
}

TEST_CASE("tables that are newer than the program are left alone") {
    InPostgres place;
    place.open()->put(letter("m"));
    const Console console(place.options.schema);
    console("UPDATE schema_version SET version = 99");
    std::string what;
    CHECK(refusal([&] { place.open()->put(letter("n")); }, &what).code == 451);
    CHECK(what.find("99") != what.npos);
    console("UPDATE schema_version SET version = 1");
    CHECK(place.open()->item("m").has_value());
}

TEST_CASE("a schema whose making was cut off is made by the next") {
    InPostgres place;
    const Console console;
    console("CREATE SCHEMA " + place.options.schema);
    Console(place.options.schema)(
        "BEGIN; CREATE TABLE schema_version (version integer NOT NULL); CREATE TABLE message ()");
    place.open()->put(letter("m"));
    CHECK(place.open()->item("m").has_value());
}

TEST_CASE("clocks that are apart are told apart, but never is never") {
    const PostgresClock ahead{3'600'000};
    const auto now = queue_now();
    CHECK(ahead.theirs(now) == (now + 1h).time_since_epoch().count());
    CHECK(ahead.ours(ahead.theirs(now)) == now);
    CHECK(ahead.ours(ahead.theirs(never_due)) == never_due);
    CHECK(ahead.theirs(never_due) == INT64_MAX);
}

TEST_SUITE_END();
