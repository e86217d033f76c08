// relay_transcript -- what a transcript shows of conversations with next hops: whose mail it is, and nothing of a
// secret.
#include <Net/SMTP/Relay/SaslLogin.hpp>
#include <Net/SMTP/Server/Sasl.hpp>
#include <mutex>
#include <set>

#include "../Server/Base64.hpp"
#include "crowd.hpp"
#include "dialogue.hpp"
#include "secure_hop.hpp"
#include "transcript_lines.hpp"

using namespace test;
using Net::SMTP::Test::FakeResolver;

namespace {

// A line of a transcript, taken apart.
struct Line {
    std::string id, host, said;  // host "": of the client's session itself
};

struct HopLines : Lines {
    Relay::Options on(Relay::Options o) const {
        o.transcript = Transcript(write()).next_hops();
        return o;
    }
    std::vector<Line> all() const {
        std::vector<Line> out;
        for (const auto& line : get()) {
            const auto id = line.find(' ') + 1, rest = line.find(' ', id) + 1, end = line.find(' ', rest);
            const auto third = line.substr(rest, end - rest);
            const bool own = third == "C:" || third == "S:" || third == "--";
            out.push_back({line.substr(id, rest - 1 - id), own ? "" : third, line.substr(own ? rest : end + 1)});
        }
        return out;
    }
    // What was said with next hops; of `--` lines where connections go and come, and TLS, only the first words.
    Names hops() const {
        Names out;
        for (auto& line : all()) {
            if (line.host.empty()) continue;
            for (const std::string start : {"-- connect from", "-- TLS is"})
                if (line.said.starts_with(start)) line.said = start;
            out.push_back(line.said);
        }
        return out;
    }
};

const std::string mail_text = "C: DATA\nS: 354\nC: Subject: x\nC:\nC: hello\nC: .\nS: 250\n";
const std::string quit = "C: QUIT\nS: 221\nS: EOF";

// A server whose sessions and relay are written down together.
Setup written(const HopLines& lines, const Relay::Options& o) {
    auto setup = relaying(lines.on(o));
    setup.listeners = [lines, before = setup.listeners](Server& server) {
        before(server);
        Transcript(lines.write()).listen(server.pipeline());
    };
    return setup;
}

bool contains(const Names& all, const std::string& line) { return std::ranges::find(all, line) != all.end(); }

// Says what it is told to, one response after the other.
class Fixed : public Login {
public:
    explicit Fixed(Names responses) : responses_(std::move(responses)) {}
    std::unique_ptr<LoginExchange> begin(const Names&, const Channel&, std::string&) const override {
        return std::make_unique<Exchange>(responses_);
    }
    std::string user() const override { return "joe"; }

private:
    class Exchange : public LoginExchange {
    public:
        explicit Exchange(Names responses) : responses_(std::move(responses)) {}
        std::string mechanism() const override { return "TEST"; }
        std::optional<std::string> step(std::optional<std::string_view>) override {
            if (at_ < responses_.size()) return responses_[at_++];
            return std::nullopt;
        }
        bool complete() const override { return true; }

    private:
        Names responses_;
        std::size_t at_ = 0;
    };
    Names responses_;
};

Relay::Options logging_in(const HopLines& lines, const std::string& address, std::shared_ptr<Login> login) {
    auto o = lines.on(through(address, asking(Level::must)));
    o.login = std::move(login);
    return o;
}

std::shared_ptr<Sasl> accounts() {
    AccountFunctions::Functions f;
    f.clear_password = [](const std::string& user) {
        return user == "joe" ? std::optional<std::string>("sesame-opens") : std::nullopt;
    };
    f.token = [](const std::string&, const std::string& token, const Channel&) {
        return token == "a-token-of-joe" ? std::optional<std::string>("joe") : std::nullopt;
    };
    return std::make_shared<Sasl>(Sasl::Options{.accounts = std::make_shared<AccountFunctions>(std::move(f))});
}

const Names with_auth{"STARTTLS", "PIPELINING", "ENHANCEDSTATUSCODES", "AUTH TEST"};
const std::string credentials("\0joe\0sesame-opens", 17);

}  // namespace

TEST_CASE("a transcript holds what was said to a next hop and by it, and the size of the text in place of it") {
    HopLines lines;
    NextHop hop;
    auto o = lines.on(via(hop));
    o.received = false;
    CHECK(Relay(Sender("a@b"), recipients({"c@d", "e@f"}), short_text, o).delivered());
    CHECK(lines.hops() == Names{"-- connect from",
                                "S: 220 next.test ESMTP",
                                "C: EHLO relay.test",
                                "S: 250-next.test",
                                "S: 250-PIPELINING",
                                "S: 250-SIZE 1000000",
                                "S: 250-8BITMIME",
                                "S: 250 ENHANCEDSTATUSCODES",
                                "C: MAIL FROM:<a@b> SIZE=21",
                                "C: RCPT TO:<c@d>",
                                "C: RCPT TO:<e@f>",
                                "S: 250 2.1.0 sender fine",
                                "S: 250 2.1.5 recipient fine",
                                "S: 250 2.1.5 recipient fine",
                                "C: DATA",
                                "S: 354 go on",
                                "-- message, 21 octets",
                                "S: 250 2.0.0 taken by the next hop",
                                "C: QUIT",
                                "S: 221 2.0.0 bye",
                                "-- disconnect"});
    for (const auto& line : lines.all()) {
        CHECK(line.id == "-");  // there is no session
        CHECK(line.host == hop.address());
    }
    CHECK(lines.holds(" to " + hop.address()));
    CHECK(!lines.holds("hello"));
}

TEST_CASE("the lines stand under the id of the client's session whose mail it is") {
    for (const bool at_rcpt : {false, true}) {
        CAPTURE(at_rcpt);
        HopLines lines;
        NextHop hop;
        auto o = via(hop);
        o.at_rcpt = at_rcpt;
        const auto played = dialogue(std::string(opening) + mail_text + quit, written(lines, o));
        REQUIRE(played.mails.size() == 1);
        const auto id = played.mails[0].id.substr(0, played.mails[0].id.rfind('-'));
        const auto all = lines.all();
        for (const auto& line : all) CHECK(line.id == id);
        CHECK(contains(lines.hops(), "C: RCPT TO:<c@d>"));
        const auto size = std::ranges::find_if(
            all, [](const Line& l) { return !l.host.empty() && l.said.starts_with("-- message "); });
        REQUIRE(size != all.end());
        CHECK(size->said.starts_with("-- message " + played.mails[0].id + ", "));
        // The next hop is asked while the client waits: for its RCPT, or for the end of its text.
        const auto at = [&](const std::string& said, bool of_hop) {
            return std::ranges::find_if(
                all, [&](const Line& l) { return l.said.starts_with(said) && l.host.empty() != of_hop; });
        };
        CHECK(at("C: RCPT", false) < at("C: RCPT", true));
        CHECK((at("C: RCPT", true) < at("S: 354", false)) == at_rcpt);
        CHECK(at("S: 250 2.0.0", true) < at("S: 221", false));
    }
}

TEST_CASE("hosts found by MX have their names, and who can't be reached is told") {
    HopLines lines;
    NextHop hop;
    Relay::Options o = via(hop);
    const auto colon = hop.address().rfind(':');
    o.host.clear();
    o.mx_port = std::uint16_t(std::stoi(hop.address().substr(colon + 1)));
    const auto dns = std::make_shared<FakeResolver>();
    dns->add("d.test", "MX 10 first.test");
    dns->add("d.test", "MX 20 second.test");
    dns->add("first.test", "A 127.0.0.9");
    dns->add("second.test", "A 127.0.0.1");
    o.resolver = dns;
    CHECK(Relay(Sender("a@b"), recipients({"c@d.test"}), short_text, lines.on(o)).delivered());
    const auto port = std::to_string(o.mx_port);
    const auto all = lines.all();
    REQUIRE(all.size() > 3);
    CHECK(all[0].host == "first.test[127.0.0.9]:" + port);
    CHECK(all[0].said.starts_with("-- given up: 451 4.4.1 "));
    CHECK(all[1].host == "second.test[127.0.0.1]:" + port);
    CHECK(all[1].said.starts_with("-- connect from 127.0.0.1:"));
    CHECK(all.back().said == "-- disconnect");
}

TEST_CASE("LMTP is written down, and BDAT, with a reply for each recipient") {
    HopLines lines;
    Test::ScriptedServer::Options options;
    options.keywords.push_back("CHUNKING");
    Test::ScriptedServer hop(options);
    hop.reply_to(". <e@f>", {452, "4.2.2", "over quota"});
    auto o = lines.on({});
    o.host = "lmtp:" + hop.address();
    o.hostname = "relay.test";
    o.received = false;
    CHECK(!Relay(Sender("a@b"), recipients({"c@d", "e@f"}), short_text, o).delivered());
    const auto said = lines.hops();
    CHECK(contains(said, "C: LHLO relay.test"));
    const auto at = std::ranges::find(said, "C: BDAT 21 LAST");
    REQUIRE(said.end() - at > 3);
    CHECK(at[1] == "-- message, 21 octets");
    CHECK(at[2].starts_with("S: 250 2."));
    CHECK(at[3] == "S: 452 4.2.2 over quota");
    CHECK(!lines.holds("hello"));
}

TEST_CASE("a kept connection's lines stand under each mail's own session") {
    HopLines lines;
    NextHop hop;
    auto o = via(hop);
    o.sessions = std::make_shared<SessionCache>();
    std::set<std::string> ids;
    for (int i = 0; i < 3; ++i) {
        const auto played = dialogue(std::string(opening) + mail_text + quit, written(lines, o));
        REQUIRE(played.mails.size() == 1);
        ids.insert(played.mails[0].id.substr(0, played.mails[0].id.rfind('-')));
    }
    auto quiet = o;
    CHECK(Relay(Sender("q@b"), recipients({"c@d"}), short_text, quiet).delivered());
    o.sessions.reset();
    quiet.sessions.reset();  // says QUIT, which is no mail's
    CHECK(hop.end().size() == 1);
    CHECK(ids.size() == 3);
    std::map<std::string, Names> by_id;
    for (const auto& line : lines.all())
        if (!line.host.empty()) by_id[line.id].push_back(line.said);
    REQUIRE(by_id.size() == 3);
    int opened = 0;
    for (const auto& [id, said] : by_id) {
        CHECK(ids.contains(id));
        CHECK(std::ranges::count_if(said, [](auto& l) { return l.starts_with("C: MAIL FROM:<a@b>"); }) == 1);
        CHECK(std::ranges::count(said, "S: 250 2.0.0 taken by the next hop") == 1);
        CHECK(said.back() == "-- the connection is kept");
        if (said.front().starts_with("-- connect from")) ++opened;
        else CHECK(said.front().starts_with("-- a kept connection, mails before: "));
    }
    CHECK(opened == 1);
    CHECK(!lines.holds("q@b"));
}

TEST_CASE("STARTTLS is written down, what was agreed on, and what went wrong") {
    HopLines lines;
    {
        SecureHop hop;
        CHECK(sent(lines.on(through(hop.address(), asking(Level::must)))).delivered());
    }
    const auto said = lines.hops();
    const auto at = std::ranges::find(said, "C: STARTTLS");
    REQUIRE(said.end() - at > 3);
    CHECK(at[1] == "S: 220 2.0.0 go ahead");
    CHECK(at[2] == "-- TLS is");
    CHECK(at[3] == "C: EHLO relay.test");
    CHECK(lines.holds("-- TLS is TLSv1.3 TLS_"));

    HopLines wrong;
    SecureHop other(tls_of({.names = {"other.test"}}));
    CHECK(sent(wrong.on(through(other.address(), asking(Level::verify)))).reply.status == "4.7.5");
    CHECK(wrong.holds("-- given up: 451 4.7.5 The certificate of " + other.address() + " does not verify"));
    CHECK(wrong.hops().back() == "-- disconnect");
}

TEST_CASE("nothing that a relay logs in with is in a transcript, by no mechanism") {
    Options options;
    options.hostname = "mail.test";
    options.tls = good_tls();
    options.auth = accounts();
    options.auth_delay = 0s;
    Test::MailServer server(options);
    for (const std::string mechanism :
         {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"})
        for (const bool right : {true, false}) {
            CAPTURE(mechanism);
            CAPTURE(right);
            HopLines lines;
            SaslLogin::Options who{.user = "joe", .password = right ? "sesame-opens" : "sesame-wrong"};
            who.mechanisms = {mechanism};
            if (mechanism.find("OAUTH") != mechanism.npos)
                who.token = [right] { return right ? "a-token-of-joe" : "a-token-of-ann"; };
            const auto o = logging_in(lines, server.address(), std::make_shared<SaslLogin>(who));
            CHECK(sent(o).delivered() == right);
            const Names verbs{"EHLO", "STARTTLS", "MAIL", "RCPT", "DATA", "BDAT", "QUIT"};
            int hidden = 0;
            for (const auto& said : lines.hops()) {
                CAPTURE(said);
                if (said.starts_with("S: 334")) CHECK((said == "S: 334 ***" || said == "S: 334 "));
                if (!said.starts_with("C: ") || contains(verbs, said.substr(3, said.find(' ', 3) - 3))) continue;
                ++hidden;
                CHECK(contains({"C: AUTH " + mechanism, "C: AUTH " + mechanism + " ***", "C: ***", "C: *"}, said));
            }
            CHECK(hidden > 0);
            for (const auto* secret : {"sesame", "a-token", "YS10b2tl"}) CHECK(!lines.holds(secret));
        }
}

TEST_CASE("challenges and responses of many steps are not in it, with what is odd about them") {
    const std::string first = "n,,n=joe,r=fyko+d2lbbFgONRv9qkxdawL",
                      challenge = "r=fyko+d2lbbFgONRv9qkxdawLabc,s=QSX,i=4096",
                      last = "c=biws,r=fyko,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", proof = "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=";
    for (const bool odd : {false, true}) {
        HopLines lines;
        SecureHop hop(good_tls(), with_auth);
        hop.on("AUTH", Act::raw("334 " + base64_encode(challenge) + "\r\n"));
        hop.on(base64_encode(last),
               Act::raw(odd ? "334-" + proof + "\r\n334 " + proof + "\r\n" : "334 " + base64_encode(proof) + "\r\n"));
        hop.on("*", Act::raw("501 5.7.0 aborted\r\n"));
        CHECK(!sent(logging_in(lines, hop.address(), std::make_shared<Fixed>(Names{first, last}))).delivered());
        for (const auto& part : {first, challenge, last, proof})
            for (const auto& secret : {part, base64_encode(part), part.substr(0, 20)}) CHECK(!lines.holds(secret));
        CHECK(lines.holds("C: AUTH TEST ***"));
        CHECK(lines.holds(odd ? "S: 334-***" : "C: *"));
    }
}

TEST_CASE("what a host repeats of a secret is not in it, however much and however late") {
    const auto whole = base64_encode(credentials);
    const Names echoes{"no such thing: AUTH TEST " + whole,
                       "no such thing: AUTH TEST " + whole.substr(0, 10) + "...",
                       "joe may not use sesame-opens here",
                       "not \"sesame-opens\"",
                       "what is " + base64_encode("sesame-opens") + '?',
                       "what is sesame-o...?"};
    for (const auto& words : echoes)
        for (const std::string command : {"AUTH", "MAIL", "RCPT", ".", "QUIT"})
            for (const int code : {250, 421, 550}) {
                CAPTURE(words);
                CAPTURE(command);
                CAPTURE(code);
                HopLines lines;
                SecureHop hop(good_tls(), with_auth);
                hop.reply_to("AUTH", {235, "2.7.0", "welcome"});
                hop.reply_to(command, {command == "QUIT" ? 221 : code, "", "well\n" + words + "\nso"});
                const auto o = logging_in(lines, hop.address(), std::make_shared<Fixed>(Names{credentials}));
                const auto result = sent(o);
                for (const auto& secret : {std::string("sesame"), whole.substr(0, 8), base64_encode("sesame")}) {
                    CHECK(!lines.holds(secret));
                }
                CHECK(lines.holds("S: " + std::to_string(command == "QUIT" ? 221 : code) + "-***"));
                CHECK(lines.holds("S: " + std::to_string(command == "QUIT" ? 221 : code) + " so"));
                // Nor is it told to the client.
                CHECK(result.reply.text.find("sesame") == std::string::npos);
                CHECK(result.reply.text.find(whole.substr(0, 8)) == std::string::npos);
            }
}

TEST_CASE("a token is hidden where it is repeated alone, and a short secret where it is a word") {
    const std::pair<std::string, std::string> cases[] = {
        {"n,a=joe,\1host=h\1port=1\1auth=Bearer tokentokentoken\1\1", "bad tokentokentoken"},
        {"joe 0123456789abcdef", "bad digest 0123456789abcdef"},
        {std::string("\0joe\0xyz", 8), "your password is xyz, joe"},
    };
    for (const auto& [response, words] : cases) {
        HopLines lines;
        SecureHop hop(good_tls(), with_auth);
        hop.reply_to("AUTH", {535, "5.7.8", words});
        CHECK(!sent(logging_in(lines, hop.address(), std::make_shared<Fixed>(Names{response}))).delivered());
        CHECK(lines.holds("S: 535 ***"));
        CHECK(!lines.holds(words.substr(4)));
    }
    // The name alone is no secret, nor what merely has its letters.
    HopLines lines;
    SecureHop hop(good_tls(), with_auth);
    hop.reply_to("AUTH", {535, "5.7.8", "joe, wxyzz is wrong"});
    sent(logging_in(lines, hop.address(), std::make_shared<Fixed>(Names{std::string("\0joe\0xyz", 8)})));
    CHECK(lines.holds("S: 535 5.7.8 joe, wxyzz is wrong"));
}

TEST_CASE("a secret is hidden too on a connection that was opened by somebody whom nobody heard") {
    HopLines lines;
    SecureHop hop(good_tls(), with_auth);
    hop.reply_to("AUTH", {235, "2.7.0", "welcome"});
    hop.on({.command = "MAIL", .nth = 2}, Reply{250, "", "sesame-opens is it"});
    auto o = through(hop.address(), asking(Level::must));
    o.login = std::make_shared<Fixed>(Names{credentials});
    o.sessions = std::make_shared<SessionCache>();
    CHECK(sent(o).delivered());
    CHECK(sent(lines.on(o)).delivered());
    CHECK(lines.holds("S: 250 ***"));
    CHECK(!lines.holds("sesame"));
    CHECK(lines.hops().front() == "-- a kept connection, mails before: 1");
}

TEST_CASE("no host writes lines of its own into it, or commands for a terminal, or endless ones") {
    const auto said = [](const std::string& raw) {
        HopLines lines;
        NextHop hop(Manners{{"MAIL", "RAW:" + raw}, {"RSET", "CLOSE"}});
        auto o = lines.on(via(hop));
        o.patience.mail = 1s;
        Relay(Sender("a@b"), recipients({"c@d"}), short_text, o);
        for (const auto& line : lines.get()) {
            CHECK(line.size() < 5000);
            CHECK(std::ranges::none_of(line, [](unsigned char c) { return c < 32 || c == 127; }));
        }
        CHECK(lines.get().size() < 200);
        return lines.hops();
    };
    CHECK(contains(said("550 a\rS: 250 b\x1b[2J\x7f\\\r\n"), "S: 550 a\\x0DS: 250 b\\x1B[2J\\x7F\\x5C"));
    CHECK(contains(said("550 " + std::string(1500, 'x') + "\r\n"),
                   "S: 550 " + std::string(993, 'x') + "[and 507 octets]"));
    CHECK(contains(said("550 \xC3\xA4\r\n"), "S: 550 \xC3\xA4"));
    CHECK(contains(said("550 \xFF\r\n"), "S: 550 \\xFF"));
    CHECK(contains(said("hello\r\n"), "S: hello"));
    const auto too_long = said("550 " + std::string(5000, 'x') + "\r\n");
    CHECK(std::ranges::none_of(too_long, [](auto& l) { return l.starts_with("S: 550 xx"); }));
    std::string flood;
    for (int i = 0; i < 1000; ++i) flood += "550-" + std::to_string(i) + "\r\n";
    CHECK(!contains(said(flood), "S: 550-500"));
}

TEST_CASE("names that could break the format are made harmless") {
    HopLines lines;
    const auto hear = Transcript(lines.write()).next_hops();
    hear("an id", "a host\r\n", "S: x\ny");
    hear("", "", "-- z");
    const auto all = lines.get();
    REQUIRE(all.size() == 2);
    CHECK(all[0].substr(25) == "an\\x20id a\\x20host\\x0D\\x0A S: x\\x0Ay");
    CHECK(all[1].substr(25) == "- - -- z");
}

TEST_CASE("why a host was left is in it") {
    for (const auto& row : {std::pair<std::string, std::string>{"CLOSE", "451 4.4.2 Connection to "},
                            {"STALL", "451 4.4.2 "},
                            {"LONG", "451 4.5.0 "},
                            {"421 4.3.2 closing", "421 4.3.2 closing"}}) {
        CAPTURE(row.first);
        HopLines lines;
        NextHop hop(Manners{{"MAIL", row.first}});
        auto o = lines.on(via(hop));
        o.patience.mail = 1s;
        CHECK(!Relay(Sender("a@b"), recipients({"c@d"}), short_text, o).delivered());
        const auto said = lines.hops();
        REQUIRE(said.size() > 2);
        CHECK(said.end()[-2].starts_with("-- given up: " + row.second));
        CHECK(said.back() == "-- disconnect");
    }
}

TEST_CASE("an observer that throws costs no mail") {
    NextHop hop;
    auto o = via(hop);
    o.transcript = [](auto, auto, auto) { throw std::runtime_error("disk full"); };
    CHECK(Relay(Sender("a@b"), recipients({"c@d"}), short_text, o).delivered());
}

TEST_CASE("asking what a host offers is written down too") {
    HopLines lines;
    NextHop hop;
    CHECK(Relay::offered(lines.on(via(hop))).extensions.pipelining);
    CHECK(contains(lines.hops(), "C: EHLO relay.test"));
    CHECK(lines.hops().back() == "-- disconnect");
}

TEST_CASE("20 relays at once over shared connections: each mail's lines are whole, in order, and its own") {
    HopLines lines;
    NextHop hop;
    auto o = lines.on(via(hop));
    o.sessions = std::make_shared<SessionCache>();
    o.at_rcpt = true;
    Server server(std::vector<std::string>{"127.0.0.1:0"}, brief());
    Relay::attach(server, o);
    Transcript(lines.write()).listen(server.pipeline());
    std::mutex mutex;
    std::map<std::string, std::string> sender_of;
    Background running([&] {
        server.run([&](Server::Client& c) {
            {
                const std::lock_guard lock(mutex);
                sender_of[c.id()] = c.FROM.str();
            }
            Relay(c.FROM, c.TO, c.MSG, o);
        });
    });
    crowd(server, [](Wire& wire, int i) {
        for (int n = 0; n < 5; ++n) send_mail(wire, "a" + std::to_string(i) + "@b", {"c@d"});
    });
    server.stop();
    running.join();
    std::map<std::string, Names> sessions;
    for (const auto& line : lines.all())
        if (!line.host.empty()) sessions[line.id].push_back(line.said);
    CHECK(sessions.size() == 20);
    for (const auto& [id, said] : sessions) {
        const auto own = "C: MAIL FROM:<" + sender_of[id] + '>';
        CHECK(std::ranges::count_if(said, [](auto& s) { return s.starts_with("C: MAIL"); }) == 5);
        CHECK(std::ranges::count_if(said, [&](auto& s) { return s.starts_with(own); }) == 5);
        CHECK(std::ranges::count(said, "S: 250 2.0.0 taken by the next hop") == 5);
        CHECK(std::ranges::count(said, "-- the connection is kept") == 5);
    }
}
