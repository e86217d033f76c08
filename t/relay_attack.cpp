// relay_attack -- next hops, name servers, files and memory that fail in the worst way: what a sender hears stays true,
// nobody gets a mail twice or half, and everything ends.
#include <Net/SMTP/Relay/Maildir.hpp>
#include <Net/SMTP/Relay/Pipe.hpp>
#include <Net/SMTP/Server/Content.hpp>
#include <Net/SMTP/Server/Test/FakeResolver.hpp>
#include <Net/SMTP/Server/Test/ScriptedServer.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <limits>
#include <map>
#include <new>
#include <set>

#include <sys/wait.h>

#include "dialogue.hpp"
#include "next_hop.hpp"

using namespace test;
using Net::SMTP::Test::Act;
using Net::SMTP::Test::Conversation;
using Net::SMTP::Test::FakeResolver;
using Net::SMTP::Test::ScriptedServer;

// ---- memory that ends ----

namespace {

// After so many more allocations of this thread the next one fails, and with `for_good` all others too. -1: none.
thread_local long allocations_left = -1;
thread_local bool allocation_failed = false, for_good = false;

void* allocate(std::size_t size) {
    if (allocations_left == 0) {
        allocation_failed = true;
        if (!for_good) allocations_left = -1;
        throw std::bad_alloc();
    }
    if (allocations_left > 0) --allocations_left;
    if (void* at = std::malloc(size ? size : 1)) return at;
    throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    try {
        return allocate(size);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void operator delete(void* at) noexcept { std::free(at); }
void operator delete[](void* at) noexcept { std::free(at); }
void operator delete(void* at, std::size_t) noexcept { std::free(at); }
void operator delete[](void* at, std::size_t) noexcept { std::free(at); }

namespace {

const std::string plain = "PIPELINING\nSIZE 10000000\n8BITMIME\nENHANCEDSTATUSCODES";

std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> out;
    for (std::size_t at = 0; at < text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        out.push_back(text.substr(at, end - at));
        at = end + 1;
    }
    return out;
}

ScriptedServer::Options offering(const std::string& keywords, const std::string& listen = "127.0.0.1:0") {
    ScriptedServer::Options o;
    o.keywords = lines(keywords);
    o.listen = listen;
    return o;
}

Relay::Options over(const ScriptedServer& hop, const std::shared_ptr<SessionCache>& sessions = {}) {
    Relay::Options o;
    o.host = hop.address();
    o.hostname = "relay.test";
    o.total = 20s;
    o.patience = {8s, 8s, 8s, 8s, 8s, 8s, 8s, 8s, 1s, 8s};
    o.received = false;
    o.sessions = sessions;
    return o;
}

const std::vector<std::string> one{"c@d"}, two{"c@d", "e@f"};

std::vector<Recipient> named(const std::vector<std::string>& names) {
    std::vector<Recipient> out;
    for (const auto& name : names) out.emplace_back(name);
    return out;
}

std::vector<Relay::Result> send(const Relay::Options& o, const std::vector<std::string>& to = one,
                                const std::string& text = "Subject: x\r\n\r\nhello\r\n") {
    return Relay(Sender("a@b"), named(to), Message(text), o).results();
}

std::vector<std::string> whole(const ScriptedServer& hop) {
    std::vector<std::string> out;
    for (const auto& c : hop.conversations())
        for (const auto& t : c.texts)
            if (t.complete) out.push_back(t.text());
    return out;
}

// A resolver that does what the test says.
class Oracle final : public Resolver {
public:
    using Answer = std::function<Records(const std::string&, RecordType, const Wait&)>;
    explicit Oracle(Answer answer) : answer_(std::move(answer)) {}
    Records query(const std::string& name, RecordType type, const Wait& wait) override {
        return answer_(name, type, wait);
    }

private:
    Answer answer_;
};

Records found(std::vector<std::string> data) { return {Records::Status::found, std::move(data), false, ""}; }
Records mx(const std::string& host) {
    using namespace std::string_literals;
    return found({"\0\x0a"s + char(host.size()) + host + "\0"s});
}
const std::string loopback("\x7f\0\0\x01", 4);

Relay::Options by_mx(const ScriptedServer& hop, Oracle::Answer answer) {
    auto o = over(hop);
    o.host.clear();
    o.mx_port = hop.port();
    o.resolver = std::make_shared<Oracle>(std::move(answer));
    return o;
}

const std::string hello = "S: 220\nC: EHLO me\nS: 250\n";
const std::string envelope = "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n";

}  // namespace

// ---- what a next hop says ----

TEST_CASE("a next hop may close after any octet it says; only a whole 250 to the end is one") {
    const std::pair<std::string, std::string> says[] = {
        {"", "220 hop\r\n"},
        {"EHLO", "250-hop\r\n250 PIPELINING\r\n"},
        {"MAIL", "250 2.1.0 sender\r\n"},
        {"RCPT", "250 recipient\r\n"},
        {"DATA", "354 go\r\n"},
        {".", "250-2.0.0 really\r\n250 2.0.0 taken\r\n"},
    };
    for (const auto& to : {one, two}) {
        for (const auto& said : says) {
            ScriptedServer hop(offering("PIPELINING"));
            for (std::size_t n = 0; n <= said.second.size(); ++n)
                hop.on({.command = said.first, .connection = n + 1},
                       Act::raw(said.second.substr(0, n)).then(Act::close()));
            for (std::size_t n = 0; n <= said.second.size(); ++n) {
                const auto octets = said.second.substr(0, n);
                CAPTURE(said.first);
                CAPTURE(octets);
                const bool end = said.first == ".", taken = end && n == said.second.size();
                for (const auto& r : send(over(hop), to)) {
                    CHECK(r.delivered() == taken);
                    if (!taken) CHECK(r.reply.temporary());
                    // A close may be seen before the end is sent, or after.
                    if (octets != "354 go\r\n") CHECK(r.in_doubt == (end && !taken));
                    CHECK(r.host == hop.address());
                }
            }
            CHECK(whole(hop).size() == (said.first == "." ? said.second.size() + 1 : 0));
        }
    }
}

TEST_CASE("no code but 250 and its like takes a mail, and none in another place does") {
    struct Row {
        const char* code;
        bool taken, doubt;
    };
    const Row rows[] = {{"250", true, false},  {"251", true, false},  {"220", false, true},  {"221", false, true},
                        {"354", false, true},  {"334", false, true},  {"199", false, true},  {"600", false, true},
                        {"421", false, false}, {"451", false, false}, {"554", false, false}, {"25", false, true},
                        {"2500", false, true}, {"+25", false, true},  {"250_", false, true}};
    for (const auto& to : {one, two}) {
        for (const std::string state : {"", "EHLO", "MAIL", "RCPT", "DATA", "."}) {
            for (const auto& row : rows) {
                CAPTURE(state);
                CAPTURE(row.code);
                ScriptedServer hop(offering("PIPELINING"));
                hop.reply_to(".", {554, "5.0.0", "never"});
                hop.on(state, Act::raw(row.code + std::string(" what\r\n")));
                const auto results = send(over(hop), to);
                for (const auto& r : results) {
                    CHECK(r.delivered() == (state == "." && row.taken));
                    CHECK(r.in_doubt == (state == "." && row.doubt));
                    // Whoever can't be understood has not refused for good.
                    const bool right = state == "DATA" && row.code == std::string("354");
                    if (row.doubt && state != "" && !right) CHECK(r.reply.temporary());
                }
                if (state != ".") CHECK(whole(hop).size() <= 1);
            }
        }
    }
}

TEST_CASE("a next hop that answers something twice, at once or late, can't turn its refusal into a yes") {
    for (const auto& keywords : {plain, std::string("8BITMIME"), plain + "\nCHUNKING"})
        for (const auto& to : {one, two})
            for (const std::string state : {"", "EHLO", "MAIL", "RCPT", "DATA"})
                for (const auto pause : {0ms, 5ms, 20ms}) {
                    CAPTURE(keywords);
                    CAPTURE(state);
                    CAPTURE(to.size());
                    CAPTURE(pause.count());
                    ScriptedServer hop(offering(keywords));
                    const auto again = [&](const Reply& reply) {
                        hop.on({.command = state, .nth = 1}, Act(reply).then(Act(reply).after(pause)));
                    };
                    if (state == "") again({220, "", "hop"});
                    else if (state == "DATA") again({354, "", "go"});
                    else again({250, "", "fine"});
                    // It takes its time, so that there is always one answer less than it seems.
                    if (state != "MAIL") hop.on("MAIL", Act(Reply{250, "", "fine"}).after(2 * pause));
                    if (state != "RCPT") hop.on("RCPT", Act(Reply{250, "", "fine"}).after(2 * pause));
                    hop.reply_to(".", {554, "5.0.0", "never"});
                    hop.reply_to("BDAT", {554, "5.0.0", "never"});
                    auto o = over(hop);
                    o.chunking = false;  // see Relay::Options: 354 is what tells one answer from the next
                    for (const auto& r : send(o, to)) CHECK(!r.delivered());
                }
}

TEST_CASE("a verdict said twice is not the next mail's, over a kept connection") {
    for (const auto& keywords : {plain, std::string("8BITMIME"), plain + "\nCHUNKING"})
        for (const auto& to : {one, two})
            for (const auto pause : {0ms, 1ms, 5ms, 20ms}) {
                CAPTURE(keywords);
                CAPTURE(to.size());
                CAPTURE(pause.count());
                ScriptedServer hop(offering(keywords));
                const auto twice = Act(Reply{250, "2.0.0", "ok"}).then(Act(Reply{250, "2.0.0", "ok"}).after(pause));
                for (const std::string end : {".", "BDAT"}) {
                    hop.reply_to(end, {554, "5.0.0", "never"});
                    hop.on({.command = end, .nth = 1}, twice);
                }
                for (const std::string command : {"MAIL", "RCPT"})
                    hop.on({.command = command, .nth = 2}, Act(Reply{250, "", "fine"}).after(2 * pause));
                auto o = over(hop, std::make_shared<SessionCache>());
                o.chunking = false;
                CHECK(send(o, to)[0].delivered());
                for (int i = 0; i < 2; ++i)
                    for (const auto& r : send(o, to)) CHECK(!r.delivered());
            }
}

TEST_CASE("whatever a next hop does, a yes to the sender is a whole text and a yes to its end") {
    std::mt19937 random(5321);
    const auto some = [&](std::size_t n) { return std::size_t(random()) % n; };
    const std::string commands[] = {"", "EHLO", "MAIL", "RCPT", "DATA", ".", "RSET"};
    const int codes[] = {220, 221, 250, 250, 251, 354, 354, 421, 450, 452, 501, 503, 550, 554};
    for (int run = 0; run < 150; ++run) {
        CAPTURE(run);
        ScriptedServer hop(offering(some(2) ? plain : "8BITMIME"));
        for (std::size_t fault = 1 + some(4); fault > 0; --fault) {
            auto act = Act(Reply{codes[some(std::size(codes))], "", "so"});
            for (std::size_t more = some(3); more > 0; --more) {
                act = act.then(Act(Reply{codes[some(std::size(codes))], "", "or so"}).after(some(3) * 2ms));
                if (some(4) == 0) act = act.then(some(2) ? Act::close() : Act::reset());
            }
            hop.on({.command = commands[some(5)], .nth = some(4)}, act);
        }
        // Every second end is refused; a refusal is never heard as a yes.
        for (std::size_t n = 2; n < 20; n += 2)
            hop.on({.command = ".", .nth = n}, Act(Reply{some(2) ? 550 : 450, "", "no " + std::to_string(n)}));
        auto o = over(hop, some(2) ? std::make_shared<SessionCache>() : nullptr);
        o.patience = {1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s, 1s};
        std::size_t yes = 0;
        std::set<std::string> promised;
        for (int mail = 0; mail < 4; ++mail) {
            const auto text = "Subject: " + std::to_string(mail) + "\r\n\r\n";
            const auto results = send(o, some(2) ? one : two, text);
            if (!results[0].delivered()) continue;
            ++yes;
            promised.insert(text);
        }
        const auto arrived = whole(hop);
        CHECK(arrived.size() >= yes);
        for (std::size_t n = 0; n < arrived.size(); ++n) {
            CHECK(std::ranges::count(arrived, arrived[n]) == 1);
            // By their order; of one connection the order is that of the ends.
            if (hop.conversations().size() == 1 && n % 2 == 1) CHECK(promised.count(arrived[n]) == 0);
        }
        for (const auto& text : promised) CHECK(std::ranges::count(arrived, text) == 1);
    }
}

TEST_CASE("a next hop that refuses in the middle of a text is heard, and gets no more of it") {
    ScriptedServer hop(offering(plain));
    hop.on("DATA", Act(Reply{354, "", "go"}).then(Act(Reply{552, "5.3.4", "enough"})));
    const auto results = send(over(hop), two, std::string(8 << 20, 'x') + "\r\n");
    for (const auto& r : results) {
        // It hangs up on the rest of the text, and a reset may swallow what it has said.
        CHECK((r.reply.str() == "552 5.3.4 enough" || r.reply.temporary()));
        CHECK(!r.in_doubt);
    }
    CHECK(whole(hop).empty());
}

TEST_CASE("what a next hop says is kept within bounds, however much it is and for however many recipients") {
    ScriptedServer hop(offering(plain));
    const auto much = Act::raw([] {
        std::string all;
        for (int i = 0; i < 100; ++i) all += "250-" + std::string(1900, 'x') + "\r\n";
        return all + "250 end\r\n";
    }());
    hop.on("RCPT", much);
    hop.on(".", much);
    for (const auto& r : send(over(hop), two)) {
        CHECK(r.delivered());
        CHECK(r.reply.text.size() <= 4096);
        CHECK(r.reply.text.size() > 1000);
    }
}

TEST_CASE("a next hop that loses its way between mails is not talked to again") {
    struct Row {
        const char* what;
        std::function<void(ScriptedServer&)> act;
    };
    const Row rows[] = {
        {"refuses RSET",
         [](ScriptedServer& hop) {
             hop.on({.command = ".", .nth = 1}, Act(Reply{554, "5.0.0", "never"}));
             hop.reply_to("RSET", {502, "5.5.1", "what?"});
         }},
        {"waits for a text whose sender it refused",
         [](ScriptedServer& hop) {
             hop.on({.command = "MAIL", .nth = 1}, Act(Reply{554, "5.0.0", "never"}));
         }},
    };
    for (const auto& row : rows) {
        CAPTURE(row.what);
        ScriptedServer hop(offering("PIPELINING"));
        row.act(hop);
        const auto sessions = std::make_shared<SessionCache>();
        CHECK(send(over(hop, sessions))[0].reply.str() == "554 5.0.0 never");
        CHECK(sessions->idle() == 0);
        CHECK(send(over(hop, sessions))[0].delivered());
        CHECK(hop.conversations().size() == 2);
    }
}

TEST_CASE("recipients that were taken for a refused sender are not the next one's") {
    ScriptedServer hop(offering("PIPELINING"));
    hop.on({.command = "MAIL", .nth = 1}, Act(Reply{554, "5.0.0", "never"}));
    const auto o = over(hop, std::make_shared<SessionCache>());
    CHECK(send(o, two)[0].reply.str() == "554 5.0.0 never");
    CHECK(send(o)[0].delivered());
    const auto all = hop.conversations();
    REQUIRE(all.size() == 1);
    const auto& said = all[0].commands;
    const auto reset = std::ranges::find(said, "RSET");
    REQUIRE(reset != said.end());
    CHECK(std::count(reset, said.end(), "RCPT TO:<e@f>") == 0);
}

TEST_CASE("after a refused chunk the connection is not used again: its octets may be running as commands") {
    ScriptedServer hop(offering(plain + "\nCHUNKING"));
    // It answers the command, and then each line of the text.
    std::string answers = "552 5.3.4 no\r\n";
    for (int i = 0; i < 3; ++i) answers += "250 2.0.0 done\r\n";
    hop.on({.command = "BDAT", .nth = 1}, Act::raw("552 5.3.4 no\r\n").then(Act::raw(answers).after(5ms)));
    const auto sessions = std::make_shared<SessionCache>();
    auto o = over(hop, sessions);
    o.chunking = true;
    CHECK(send(o, one, "NOOP\r\nNOOP\r\nNOOP\r\n")[0].reply.code == 552);
    CHECK(sessions->idle() == 0);
    CHECK(send(o)[0].delivered());
    CHECK(hop.conversations().size() == 2);
}

TEST_CASE("a kept connection that refuses the sender says nothing about this mail: a new one is asked") {
    for (const Reply& refusal : {Reply{503, "5.5.1", "nested"}, Reply{452, "4.5.3", "too many mails"}}) {
        ScriptedServer hop(offering("PIPELINING"));
        hop.on({.command = "MAIL", .nth = 2, .connection = 1}, Act(refusal));
        hop.on({.command = "RCPT", .nth = 2, .connection = 1}, Act(Reply{503, "5.5.1", "what?"}));
        hop.on({.command = "DATA", .nth = 2, .connection = 1}, Act(Reply{503, "5.5.1", "what?"}));
        const auto o = over(hop, std::make_shared<SessionCache>());
        CHECK(send(o)[0].delivered());
        CHECK(send(o)[0].delivered());
        CHECK(hop.conversations().size() == 2);
        CHECK(whole(hop).size() == 2);
    }
    ScriptedServer hop(offering("PIPELINING"));
    hop.on("MAIL FROM:<a@b>", Act(Reply{550, "5.7.1", "not from you"}));
    hop.on("RCPT", Act(Reply{503, "5.5.1", "what?"}));
    hop.on("DATA", Act(Reply{503, "5.5.1", "what?"}));
    const auto o = over(hop, std::make_shared<SessionCache>());
    for (int i = 0; i < 3; ++i) CHECK(send(o)[0].reply.code == 550);
    CHECK(hop.conversations().size() <= 3);
}

TEST_CASE("kept connections that hang cost no time, however many they are") {
    ScriptedServer hop(offering(plain));
    hop.on(".", Act::raw("250 2.0.0 ok\r\n4"));
    const auto sessions = std::make_shared<SessionCache>();
    std::vector<std::unique_ptr<Session>> all;
    const auto o = over(hop, sessions);
    for (int i = 0; i < 12; ++i) {
        auto session = std::make_unique<Session>(Upstream::parse(o.host), o.hostname, o.patience, Clock::now() + 20s);
        std::vector<Reply> replies;
        session->mail(Sender("a@b"), 0, named(one), replies);
        session->data("", Message("x\r\n"), false);
        sessions->put(std::move(session));
    }
    const auto began = Clock::now();
    CHECK(!sessions->take(Upstream::parse(o.host), o.hostname));
    CHECK(Clock::now() - began < 5s);
    CHECK(sessions->idle() == 0);
}

TEST_CASE("a kept connection to the same address under another name is not that name's") {
    ScriptedServer hop(offering(plain));
    auto dns = std::make_shared<FakeResolver>();
    for (const std::string name : {"one.example", "two.example"}) {
        dns->add(name, "MX 10 mx." + name);
        dns->add("mx." + name, "A 127.0.0.1");
    }
    auto o = over(hop, std::make_shared<SessionCache>());
    o.host.clear();
    o.mx_port = hop.port();
    o.resolver = dns;
    for (const std::string name : {"one.example", "two.example"})
        CHECK(send(o, {"c@" + name})[0].host == "mx." + name + "[127.0.0.1]:" + std::to_string(hop.port()));
}

// ---- what the DNS says ----

TEST_CASE("whoever had no time to ask everybody does not know that there is nobody") {
    ScriptedServer hop(offering(plain));
    // The answer comes with the end of the time.
    const auto late = [](auto answer) {
        return [answer](const std::string& name, RecordType type, const Wait& wait) {
            while (!wait.over()) std::this_thread::sleep_until(std::min(wait.look(), Clock::now() + 50ms));
            return answer(name, type);
        };
    };
    const auto only_mx = late([](const std::string&, RecordType type) {
        return type == RecordType::MX ? mx("mx") : Records{Records::Status::no_domain};
    });
    const auto no_mx = late([](const std::string&, RecordType) { return Records{Records::Status::no_data}; });
    for (const auto& answer : {Oracle::Answer(only_mx), Oracle::Answer(no_mx)}) {
        auto o = by_mx(hop, answer);
        o.total = 1s;
        o.patience.lookup = 100s;
        const auto result = send(o)[0];
        CAPTURE(result.reply.str());
        CHECK(result.reply.temporary());
        CHECK(result.host == "");
    }
}

TEST_CASE("a resolver that throws, or says what makes no sense, is a DNS that does not work for now") {
    ScriptedServer hop(offering(plain));
    using namespace std::string_literals;
    const Oracle::Answer answers[] = {
        [](auto&, auto, auto&) -> Records { throw std::runtime_error("no"); },
        [](auto&, auto, auto&) -> Records { throw std::bad_alloc(); },
        [](auto&, auto, auto&) -> Records { throw 5; },
        [](auto&, auto, auto&) { return found({}); },
        [](auto&, auto, auto&) {
            return found({"", "x", "\0\x0a\x05zz"s, std::string(70'000, '\xff')});
        },
        [](auto&, RecordType type, auto&) {
            if (type == RecordType::MX) return mx("mx");
            throw std::runtime_error("no");
        },
        [](auto&, RecordType type, auto&) {
            return type == RecordType::MX ? mx("mx") : found({"", "abc", std::string(17, 'x')});
        },
    };
    for (const auto& answer : answers) {
        std::vector<Relay::Result> results;
        CHECK_NOTHROW(results = send(by_mx(hop, answer)));
        REQUIRE(results.size() == 1);
        CAPTURE(results[0].reply.str());
        CHECK(results[0].reply.temporary());
    }
    CHECK(hop.conversations().empty());
}

TEST_CASE("thousands of records make no thousands of connections, nor of questions") {
    std::atomic<int> asked{0};
    ScriptedServer hop(offering(plain));
    hop.reply_to("", {450, "4.0.0", "not now"});
    const auto o = by_mx(hop, [&](const std::string&, RecordType type, const Wait&) {
        ++asked;
        std::vector<std::string> many;
        for (int i = 0; i < 3000; ++i) {
            if (type == RecordType::MX) many.push_back(mx("mx" + std::to_string(i)).data[0]);
            if (type == RecordType::A) many.push_back(loopback);
        }
        return many.empty() ? Records{Records::Status::no_data} : found(many);
    });
    CHECK(send(o)[0].reply.str() == "450 4.0.0 not now");
    CHECK(asked < 300);
    CHECK(hop.conversations().size() <= 100);
}

TEST_CASE("a better host whose address is not known now is not forgotten for ourselves") {
    // RFC 5321 5.1: only who has no better one is the end of the way.
    Server server(Addresses{"127.0.0.1:0"});
    auto dns = std::make_shared<FakeResolver>();
    dns->add("d.example", "MX 10 unsure.example");
    dns->add("d.example", "MX 20 ours.example");
    dns->fail("unsure.example");
    dns->add("ours.example", "A 127.0.0.1");
    Relay::Options o;
    o.resolver = dns;
    o.mx_port = server.port();
    o.hostname = "relay.test";
    std::vector<Relay::Result> results;
    Background session([&] {
        Server::Client client(server.accept());
        while (client.process()) results = Relay(client.FROM, client.TO, client.MSG, o).results();
    });
    auto wire = dial(server);
    play(wire, hello +
                   "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d.example>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 451 "
                   "4.4.3\nC: QUIT\nS: 221");
    session.join();
}

TEST_CASE("what the smart host offers is asked at the address that the resolver knows") {
    ScriptedServer hop(offering("SIZE 4711"));
    auto o = over(hop);
    auto dns = std::make_shared<FakeResolver>();
    dns->add("smart.example", "A 127.0.0.99");
    dns->add("smart.example", "A 127.0.0.1");
    o.resolver = dns;
    o.host = "smart.example:" + std::to_string(hop.port());
    Reply failure;
    CHECK(Relay::offered(o, &failure).max_size == 4711);
    CHECK(failure.positive());
    o.host = "unknown.example:" + std::to_string(hop.port());
    CHECK(Relay::offered(o, &failure).max_size == 0);
    CHECK(failure.str().starts_with("451 4.4.4"));
}

// ---- what our own system does ----

TEST_CASE("a text whose file has become shorter behind our back is no mail") {
    const std::string body(300'000, 'x');
    for (const auto& keywords : {plain, std::string("8BITMIME"), plain + "\nCHUNKING\nBINARYMIME"})
        for (const bool binary : {false, true})
            for (const std::size_t left : {0, 1, 200'000}) {
                if (binary && keywords.find("BINARYMIME") == keywords.npos) continue;
                CAPTURE(keywords);
                CAPTURE(binary);
                CAPTURE(left);
                ScriptedServer hop(offering(keywords));
                auto o = over(hop, std::make_shared<SessionCache>());
                o.chunking = true;
                Setup setup;
                setup.options.spool_above = 0;
                setup.options.offer.binary_mime = true;
                std::vector<Relay::Result> results;
                setup.handler = [&](Server::Client& c) {
                    CHECK(ftruncate(c.MSG.content()->file.get(), off_t(left)) == 0);
                    results = Relay(c.FROM, c.TO, c.MSG, o).results();
                };
                Talk talk(setup);
                talk.play(hello + "C: MAIL FROM:<a@b>" + (binary ? " BODY=BINARYMIME" : "") +
                          "\nS: 250\nC: RCPT TO:<c@d>\nS: 250");
                talk.wire.send("BDAT 300002 LAST\r\n" + body + "\r\n");
                talk.play("S: 451 4.3.0\nC: NOOP\nS: 250\nC: QUIT\nS: 221");
                talk.end();
                REQUIRE(results.size() == 1);
                CHECK(results[0].reply.str().find("Input/output") == std::string::npos);
                CHECK(whole(hop).empty());
                for (const auto& c : hop.conversations()) CHECK(!c.octets.ends_with("RSET\r\n"));
                CHECK(o.sessions->idle() == 0);
            }
}

TEST_CASE("who asks for the sender and gets an exception sends no end") {
    for (const bool chunks : {false, true}) {
        CAPTURE(chunks);
        ScriptedServer hop(offering(plain + (chunks ? "\nCHUNKING" : "")));
        auto o = over(hop, std::make_shared<SessionCache>());
        o.chunking = true;
        const Message message("hello\r\n");
        message.content()->sender_present = []() -> bool { throw std::bad_alloc(); };
        bool delivered = false;
        try {
            delivered = Relay(Sender("a@b"), named(one), message, o).delivered();
        } catch (const std::bad_alloc&) {
            // is as good as a refusal
        }
        CHECK(!delivered);
        CHECK(whole(hop).empty());
        CHECK(o.sessions->idle() == 0);
    }
}

TEST_CASE("memory may end anywhere: no mail arrives twice, changed, or with a promise that is none") {
    struct Way {
        const char* name;
        std::string keywords;
        bool lmtp, kept;
    };
    const Way ways[] = {{"DATA", plain, false, true},
                        {"one by one", "8BITMIME", false, false},
                        {"BDAT", plain + "\nCHUNKING", false, true},
                        {"LMTP", plain, true, true}};
    for (const auto& way : ways)
        for (const bool all : {false, true}) {
            CAPTURE(way.name);
            CAPTURE(all);
            const Folder folder;
            ScriptedServer hop(offering(way.keywords, "unix:" + folder / "hop"));
            // Nothing that fits into a string without an allocation.
            const std::string words(100, 'w');
            for (const std::string command : {"MAIL", "RCPT", "RSET", "BDAT", "."})
                hop.reply_to(command, {250, "2.0.0", words});
            hop.reply_to("DATA", {354, "", words});
            auto o = over(hop);
            o.chunking = true;
            o.host = (way.lmtp ? "lmtp:" : "") + hop.address();
            std::set<std::string> sent, promised, excluded;
            bool more = true;
            for (long n = 0; more && n < 5000; ++n) {
                // Each with a cache of its own, so that every allocation comes again.
                o.sessions = way.kept ? std::make_shared<SessionCache>() : nullptr;
                const auto text = "Subject: " + std::to_string(n) + "\r\n\r\n" + std::string(100, 'x') + "\r\n";
                sent.insert(text);
                const auto to = named(n % 2 ? one : two);
                const Sender from("a@b");
                const Message message(text);
                std::unique_ptr<Relay> relay;
                allocation_failed = false;
                for_good = all;
                allocations_left = n;
                try {
                    relay = std::make_unique<Relay>(from, to, message, o);
                } catch (const std::bad_alloc&) {
                    // is 451 to the sender
                }
                allocations_left = -1;
                more = allocation_failed;
                if (relay && relay->delivered()) promised.insert(text);
                // Who is sure that it has not arrived may send it to another host.
                else if (relay && !relay->results()[0].in_doubt) excluded.insert(text);
                // Whatever is kept is in order for another mail.
                const auto next = "Subject: after " + std::to_string(n) + "\r\n\r\n";
                if (!way.kept) continue;
                sent.insert(next);
                if (Relay(from, to, Message(next), o).delivered()) promised.insert(next);
                CHECK(promised.count(next) == 1);
            }
            CHECK(!more);
            std::map<std::string, int> count;
            for (const auto& text : whole(hop)) ++count[text];
            for (const auto& arrived : count) {
                CAPTURE(escaped(arrived.first));
                CHECK(sent.count(arrived.first) == 1);
                CHECK(arrived.second == 1);
                CHECK(excluded.count(arrived.first) == 0);
            }
            for (const auto& text : promised) CHECK(count[text] == 1);
        }
}

TEST_CASE("memory may end anywhere: who is said to have it in a mailbox has it there, and nobody else") {
    const Folder folder;
    struct Way {
        std::shared_ptr<Target> target;
        std::string mails;
        bool one_for_all;
    };
    for (const auto& way :
         {Way{std::make_shared<Maildir>(folder / "mail"), folder / "mail/new", true},
          Way{std::make_shared<Pipe>(std::vector<std::string>{"/bin/sh", "-c", "cat >" + (folder / "pipe") + "/$$"}),
              folder / "pipe", false}})
        for (const bool all : {false, true}) {
            CAPTURE(way.mails);
            CAPTURE(all);
            std::filesystem::create_directories(way.mails);
            const auto there = [&] {
                const std::filesystem::directory_iterator files(way.mails), end;
                return std::distance(files, end);
            };
            Relay::Options o;
            o.target = way.target;
            const Sender from("a@b");
            const auto to = named(two);
            REQUIRE(Relay(from, to, Message("first\r\n"), o).delivered());
            bool more = true;
            for (long n = 0; more && n < 1000; ++n) {
                CAPTURE(n);
                const Message message("Subject: x\r\n\r\n" + std::string(100, 'x') + "\r\n");
                const auto before = there();
                std::unique_ptr<Relay> relay;
                allocation_failed = false;
                for_good = all;
                allocations_left = n;
                try {
                    relay = std::make_unique<Relay>(from, to, message, o);
                } catch (const std::bad_alloc&) {
                    // is 451 to the sender
                }
                allocations_left = -1;
                more = allocation_failed;
                std::ptrdiff_t said = 0;
                if (relay) said = std::ranges::count_if(relay->results(), &Relay::Result::delivered);
                CHECK(there() - before == (way.one_for_all ? said / 2 : said));
            }
            CHECK(!more);
        }
}

TEST_CASE("times without an end are refused or cut, not overflowed") {
    ScriptedServer hop(offering(plain));
    auto o = over(hop);
    o.total = std::chrono::seconds::max();
    CHECK_THROWS_AS(send(o), std::invalid_argument);
    o = over(hop);
    o.patience.mail = std::chrono::seconds::max();
    CHECK_THROWS_AS(send(o), std::invalid_argument);
    o = over(hop, std::make_shared<SessionCache>(SessionCache::Limits{.keep = std::chrono::seconds::max()}));
    CHECK(send(o)[0].delivered());
    CHECK(o.sessions->idle() == 1);
    CHECK(send(o)[0].delivered());
    CHECK(hop.conversations().size() == 1);
}

TEST_CASE("a name of ours that would be two commands is the program's mistake") {
    ScriptedServer hop(offering(plain));
    const auto greeted_as = [&](const std::string& hostname) {
        Session(Upstream::parse(hop.address()), hostname, {}, Clock::now() + 20s);
    };
    for (const std::string hostname : {"me\r\nMAIL FROM:<evil@x>", "me\n", "m e", "\x7f", ""})
        CHECK_THROWS_AS(greeted_as(hostname), std::invalid_argument);
    CHECK(hop.conversations().empty());
}

TEST_CASE("a recipient that is none is not asked about") {
    ScriptedServer hop(offering(plain));
    const Relay relay(Sender("a@b"), {Recipient()}, Message("x\r\n"), over(hop));
    CHECK(relay.results()[0].reply.str().starts_with("553 5.1.3"));
    CHECK(!hop.finish().at(0).said("RCPT"));
}

// ---- another process ----

TEST_CASE("a copy of the process says nothing for a session of its parent's, and counts none as its own") {
    ScriptedServer hop(offering(plain));
    const auto sessions = std::make_shared<SessionCache>();
    CHECK(send(over(hop, sessions))[0].delivered());
    Session open(Upstream::parse(hop.address()), "relay.test", {}, Clock::now() + 20s);
    std::vector<Reply> replies;
    CHECK(open.mail(Sender("a@b"), 0, named(one), replies).positive());
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        alarm(20);
        const bool none = sessions->idle() == 0 && !open.alive();
        open.reset();
        open.leave();
        open.quit();
        _exit(none ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(open.data("", Message("x\r\n"), false)[0].reply.positive());
    for (const auto& c : hop.conversations()) {
        CHECK(!c.said("RSET"));
        CHECK(!c.said("QUIT"));
    }
}

// ---- asking during RCPT ----

TEST_CASE("with at_rcpt what the program changes goes out, not what was asked about") {
    ScriptedServer hop(offering(plain + "\nDSN"));
    auto o = over(hop);
    o.at_rcpt = true;
    const std::function<void(Server::Client&)> changes[] = {
        [](Server::Client& c) { c.FROM.envid = "later"; },
        [](Server::Client& c) { c.FROM.ret = Return::headers; },
        [](Server::Client& c) { c.TO[0].notify.never = true; },
        [](Server::Client& c) {
            c.TO[0].orcpt = OriginalRecipient{"rfc822", "later@b"};
        },
    };
    std::size_t n = 0;
    for (const auto& change : changes) {
        auto setup = relaying(o);
        setup.handler = [&](Server::Client& c) {
            change(c);
            Relay(c.FROM, c.TO, c.MSG, o);
        };
        dialogue(hello + envelope + "C: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221", setup);
        const auto all = hop.wait_for(2 * ++n);
        std::size_t delivered = 0;
        for (const auto& c : all) {
            if (c.texts.empty()) continue;
            ++delivered;
            CHECK((c.said("MAIL FROM:<a@b> ENVID=later") || c.said("MAIL FROM:<a@b> RET=HDRS") ||
                   c.said("RCPT TO:<c@d> NOTIFY=NEVER") || c.said("RCPT TO:<c@d> ORCPT=rfc822;later@b")));
        }
        CHECK(delivered == n);
    }
}

TEST_CASE("with at_rcpt a next hop that finds fault with our commands does not get the client counted out") {
    ScriptedServer hop(offering(plain));
    hop.reply_to("RCPT TO:<bad@", {501, "5.1.3", "Bad address"});
    auto o = over(hop);
    o.at_rcpt = true;
    auto setup = relaying(o);
    setup.options.max_errors = 2;
    std::string script = hello + "C: MAIL FROM:<a@b>\nS: 250\n";
    for (int i = 0; i < 5; ++i) script += "C: RCPT TO:<bad@d>\nS: 550 5.1.3 Bad address\n";
    dialogue(script + "C: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221", setup);
    CHECK(whole(hop).size() == 1);
}

TEST_CASE("a kept connection that takes the text and says nothing is in doubt, and not tried again") {
    for (const auto& act : {Act::close(), Act::reset(), Act::raw("250 2.0.0 tak").then(Act::close())})
        for (const auto& to : {one, two}) {
            ScriptedServer hop(offering(plain));
            hop.on({.command = ".", .nth = 2}, act);
            const auto o = over(hop, std::make_shared<SessionCache>());
            CHECK(send(o, to)[0].delivered());
            for (const auto& r : send(o, to)) {
                CHECK(r.reply.temporary());
                CHECK(r.in_doubt);
            }
            CHECK(whole(hop).size() == 2);
            CHECK(hop.conversations().size() == 1);
        }
}

TEST_CASE("with at_rcpt a mail that the program sends elsewhere goes there") {
    ScriptedServer asked(offering(plain)), other(offering(plain));
    auto o = over(asked);
    o.at_rcpt = true;
    auto setup = relaying(o);
    setup.handler = [&](Server::Client& c) {
        auto elsewhere = o;
        elsewhere.host = other.address();
        Relay(c.FROM, c.TO, c.MSG, elsewhere);
    };
    dialogue(hello + envelope + "C: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221", setup);
    CHECK(whole(asked).empty());
    CHECK(whole(other).size() == 1);
}

TEST_CASE("with at_rcpt the time is each recipient's, not that of the client who names them") {
    ScriptedServer hop(offering(plain));
    hop.on({.command = "RCPT", .nth = 1}, Act(Reply{250, "", "ok"}).after(600ms));
    hop.on({.command = "RCPT", .nth = 2}, Act(Reply{250, "", "ok"}).after(600ms));
    hop.on({.command = "RCPT", .nth = 3}, Act(Reply{250, "", "ok"}).after(600ms));
    auto o = over(hop);
    o.at_rcpt = true;
    o.total = 1s;
    dialogue(hello + envelope + "C: RCPT TO:<e@f>\nS: 250\nC: RCPT TO:<g@h>\nS: 250\nC: QUIT\nS: 221", relaying(o));
}

TEST_CASE("with at_rcpt a next hop that did not wait for the text is asked again") {
    for (const auto& act : {Act(Reply{250, "", "ok"}).then(Act::close()),
                            Act(Reply{250, "", "ok"}).then(Act(Reply{421, "4.4.2", "idle"})).then(Act::close())}) {
        ScriptedServer hop(offering(plain));
        hop.on({.command = "RCPT", .connection = 1}, act);
        auto o = over(hop);
        o.at_rcpt = true;
        auto setup = relaying(o);
        setup.handler = [&](Server::Client& c) {
            hop.wait_for(1);
            Relay(c.FROM, c.TO, c.MSG, o);
        };
        dialogue(hello + envelope + "C: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221", setup);
        CHECK(whole(hop).size() == 1);
    }
}

TEST_CASE("with at_rcpt every way out of a transaction ends the next hop's") {
    for (const std::string way : {"RSET", "EHLO again", "MAIL FROM:<x@y>\nS: 503\nC: RSET", "QUIT"}) {
        CAPTURE(way);
        ScriptedServer hop(offering(plain));
        auto o = over(hop);
        o.at_rcpt = true;
        const bool quits = way == "QUIT";
        dialogue(hello + envelope + "C: " + way + "\nS: 2" +
                     (quits ? "" : "\n" + envelope + "C: DATA\nS: 354\nC: .\nS: 250\nC: QUIT\nS: 221"),
                 relaying(o));
        const auto all = hop.finish();
        REQUIRE(all.size() == (quits ? 1 : 2));
        CHECK(all[0].texts.empty());
        CHECK(all[0].end == Conversation::End::quit);
        CHECK(whole(hop).size() == (quits ? 0 : 1));
    }
}

// ---- the end of the server ----

TEST_CASE("the drain ends a relay in whatever state its next hop leaves it") {
    std::vector<Background> all;
    for (const std::string state : {"", "EHLO", "MAIL", "RCPT", "DATA", ".", "RSET", "QUIT"})
        all.emplace_back([state] {
            ScriptedServer hop(offering("8BITMIME"));
            hop.on(state, Act::stall());
            if (state == "RSET") hop.reply_to(".", {450, "4.0.0", "later"});
            auto o = over(hop);
            o.total = 100s;
            o.patience = {100s, 100s, 100s, 100s, 100s, 100s, 100s, 100s, 100s, 100s};
            o.sessions = state == "RSET" ? std::make_shared<SessionCache>() : nullptr;
            Server server(Addresses{"127.0.0.1:0"}, brief());
            Background running(
                [&] { server.run([&](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, o); }, {.drain = 1s}); });
            auto wire = dial(server);
            play(wire, hello + envelope + "C: DATA\nS: 354\nC: .");
            while (hop.conversations().empty()) std::this_thread::yield();
            server.stop();
            running.join(10s);
        });
    for (auto& b : all) CHECK_NOTHROW(b.join(60s));
}

TEST_CASE("the drain ends what is asked during RCPT, too") {
    std::vector<Background> all;
    for (const std::string state : {"", "EHLO", "MAIL", "RCPT", "DNS"})
        all.emplace_back([state] {
            ScriptedServer hop(offering("8BITMIME"));
            if (state != "DNS") hop.on(state, Act::stall());
            auto dns = std::make_shared<FakeResolver>();
            if (state == "DNS") dns->stall("d");
            auto o = over(hop);
            o.total = 100s;
            o.patience = {100s, 100s, 100s, 100s, 100s, 100s, 100s, 100s, 100s, 100s};
            o.at_rcpt = true;
            if (state == "DNS") o.host.clear(), o.resolver = dns;
            Server server(Addresses{"127.0.0.1:0"}, brief());
            Relay::attach(server, o);
            Background running([&] { server.run([](Server::Client&) {}, {.drain = 1s}); });
            auto wire = dial(server);
            play(wire, hello + "C: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>");
            while (hop.conversations().empty() && dns->asked() == 0) std::this_thread::yield();
            server.stop();
            running.join(10s);
        });
    for (auto& b : all) CHECK_NOTHROW(b.join(60s));
}
