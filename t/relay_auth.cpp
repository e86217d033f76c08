// relay_auth -- how a relay logs in at its smart host: nothing of a mail is said before that went well, nothing of a
// secret where it does not belong, and no refusal of a login is one of the mail.
#include <Net/SMTP/Relay/SaslLogin.hpp>
#include <Net/SMTP/Server/Sasl.hpp>
#include <mutex>
#include <utility>

#include "../Server/Base64.hpp"
#include "dialogue.hpp"
#include "secure_hop.hpp"

using namespace test;
using Net::SMTP::Test::FakeResolver;

namespace {

using Lines = std::vector<std::string>;
using Responses = std::vector<std::optional<std::string>>;

// Says what the test tells it to: first the initial response, if any, then one response to each challenge.
class TestLogin : public Login {
public:
    explicit TestLogin(Responses responses, std::string mechanism = "TEST")
        : responses_(std::move(responses)), mechanism_(std::move(mechanism)) {}

    std::unique_ptr<LoginExchange> begin(const std::vector<std::string>& offered, const Channel& channel,
                                         std::string& why) const override {
        const std::lock_guard lock(mutex_);
        offers.push_back(offered);
        verified.push_back(channel.tls && channel.tls->peer && channel.tls->peer->verified);
        bindings.push_back(channel.binding ? channel.binding("tls-exporter").size() : 0);
        hosts.push_back(channel.hostname);
        if (thrown) throw std::runtime_error("a secret of the program's: hunter2");
        if (mechanism_.empty()) {
            why = "none of its mechanisms may be used here";
            return nullptr;
        }
        return std::make_unique<Exchange>(*this);
    }
    std::string user() const override { return "joe"; }

    bool proved = true, thrown = false;
    mutable std::vector<Lines> offers;
    mutable std::vector<bool> verified;
    mutable std::vector<std::size_t> bindings;
    mutable Lines hosts, challenges;

private:
    class Exchange : public LoginExchange {
    public:
        explicit Exchange(const TestLogin& login) : login_(login) {}
        std::string mechanism() const override { return login_.mechanism_; }
        std::optional<std::string> step(std::optional<std::string_view> challenge) override {
            const std::lock_guard lock(login_.mutex_);
            if (challenge) login_.challenges.emplace_back(*challenge);
            return at_ < login_.responses_.size() ? login_.responses_[at_++] : std::nullopt;
        }
        bool complete() const override { return login_.proved; }

    private:
        const TestLogin& login_;
        std::size_t at_ = 0;
    };
    const Responses responses_;
    const std::string mechanism_;
    mutable std::mutex mutex_;
};

const Lines with_auth{"STARTTLS", "PIPELINING", "ENHANCEDSTATUSCODES", "AUTH TEST OTHER"};

std::shared_ptr<TestLogin> one_step() { return std::make_shared<TestLogin>(Responses{"sesame-opens"}); }

Relay::Options logging_in(const std::string& address, std::shared_ptr<Login> login,
                          std::optional<Level> level = std::nullopt) {
    auto o = through(address, ClientTLS({.level = level, .ca = authority().file(), .name = host_name}));
    o.login = std::move(login);
    return o;
}

std::string b64(std::string_view octets) { return base64_encode(octets); }

// What was said under TLS, but for its EHLO.
Lines encrypted(const Conversation& c) {
    Lines out(c.commands.begin() + std::ptrdiff_t(c.in_the_clear), c.commands.end());
    if (!out.empty() && out.front() == "EHLO relay.test") out.erase(out.begin());
    return out;
}

bool mail_said(const std::vector<Conversation>& all) {
    return std::ranges::any_of(all, [](const Conversation& c) { return c.said("MAIL"); });
}

}  // namespace

TEST_CASE("AUTH comes after the second EHLO and before MAIL, with what is offered then") {
    SecureHop hop(good_tls(), {"STARTTLS", "PIPELINING", "AUTH EARLY TEST"});
    hop.on({.command = "EHLO", .nth = 2},
           Reply{250, "", "hop.test\nAUTH  Test  x-own TEST too.odd " + std::string(21, 'L') + "\nauth LATE"});
    hop.reply_to("AUTH", {235, "2.7.0", "welcome"});
    const auto login = one_step();
    const auto result = sent(logging_in(hop.address(), login));
    CHECK(result.delivered());
    CHECK(result.tls.ends_with(", verified"));
    CHECK(login->offers == std::vector<Lines>{{"TEST", "X-OWN", "LATE"}});
    CHECK(login->verified == std::vector<bool>{true});
    CHECK(login->bindings == std::vector<std::size_t>{32});
    CHECK(login->hosts == Lines{"127.0.0.1"});
    const auto all = hop.finish();
    CHECK(all.at(0).commands == Lines{"EHLO relay.test", "STARTTLS", "EHLO relay.test",
                                      "AUTH TEST " + b64("sesame-opens"), "MAIL FROM:<a@b.test>", "RCPT TO:<c@d.test>",
                                      "DATA", ".", "QUIT"});
}

TEST_CASE("with a login nothing but verified TLS will do, unless another level is named") {
    for (const bool offered : {true, false}) {
        SecureHop hop(tls_of({.names = {"other.test"}}), offered ? with_auth : Lines{"AUTH TEST"});
        hop.reply_to("AUTH", {235, "", ""});
        CHECK(sent(logging_in(hop.address(), one_step())).reply.status == "4.7.5");
        const auto all = hop.finish();
        for (const auto& c : all) CHECK(!c.said("AUTH"));
        CHECK(!mail_said(all));
    }
    SecureHop hop(tls_of({.names = {"other.test"}}), with_auth);
    hop.reply_to("AUTH", {235, "", ""});
    const auto login = one_step();
    CHECK(sent(logging_in(hop.address(), login, Level::must)).delivered());
    CHECK(sent(logging_in(hop.address(), login, Level::none)).delivered());
    CHECK(login->verified == std::vector<bool>{false, false});
    CHECK(login->bindings == std::vector<std::size_t>{32, 0});
}

TEST_CASE("a dialogue of several steps: challenges go to the mechanism, its responses come back") {
    SecureHop hop(good_tls(), with_auth);
    hop.on("AUTH", Act::raw("334 " + b64("who?") + "\r\n"));
    hop.on(b64("it's me"), Act::raw("334 \r\n"));
    hop.on(b64("really"), Act::raw("334\r\n"));
    hop.on(b64("honestly"), Act::raw("235 2.7.0 then come in\r\n"));
    const auto login = std::make_shared<TestLogin>(Responses{std::nullopt, "it's me", "really", "honestly"});
    CHECK(sent(logging_in(hop.address(), login)).delivered());
    CHECK(login->challenges == Lines{"who?", "", ""});
    const auto said = encrypted(hop.finish().at(0));
    CHECK(Lines(said.begin(), said.begin() + 4) == Lines{"AUTH TEST", b64("it's me"), b64("really"), b64("honestly")});
}

TEST_CASE("an empty initial response is '=', and an empty response an empty line") {
    SecureHop hop(good_tls(), with_auth);
    hop.on("AUTH", Act::raw("334 " + b64("x") + "\r\n").then(Act::swallow()).then(Act::raw("235 ok\r\n")));
    CHECK(sent(logging_in(hop.address(), std::make_shared<TestLogin>(Responses{"", ""}))).delivered());
    const auto octets = hop.finish().at(0).octets;
    CHECK(octets.find("\r\nAUTH TEST =\r\n\r\nMAIL FROM:") != octets.npos);
}

TEST_CASE("an initial response that a command line has no room for comes when it is asked for") {
    // "AUTH TEST " and CRLF leave 500 of 512 octets: 375 of them raw.
    for (const std::size_t size : {375, 376, 9216}) {
        CAPTURE(size);
        const std::string raw(size, 'k');
        SecureHop hop(good_tls(), with_auth);
        hop.reply_to("AUTH TEST " + b64(raw), {235, "", "ok"});
        hop.on("AUTH TEST", Act::raw(size == 375 ? "535 no\r\n" : "334 \r\n"));
        hop.reply_to(b64(raw), {235, "", "ok"});
        const auto login = std::make_shared<TestLogin>(Responses{raw});
        CHECK(sent(logging_in(hop.address(), login)).delivered());
        CHECK(login->challenges.empty());
    }
    // Who asks something else instead is not told.
    SecureHop hop(good_tls(), with_auth);
    hop.on("AUTH TEST", Act::raw("334 " + b64("password?") + "\r\n"));
    const std::string raw(376, 'k');
    CHECK(sent(logging_in(hop.address(), std::make_shared<TestLogin>(Responses{raw}))).reply.status == "4.7.8");
    const auto all = hop.finish();
    CHECK(all.at(0).said("*"));
    CHECK(all[0].octets.find("kkkk") == std::string::npos);
    CHECK(all[0].octets.find(b64(raw)) == std::string::npos);
}

TEST_CASE("responses and challenges of 12,288 octets pass, longer ones end it") {
    for (const std::size_t size : {9216, 9217}) {
        CAPTURE(size);
        const bool fits = size == 9216;
        const std::string raw(size, 'r');
        SecureHop hop(good_tls(), with_auth);
        hop.on("AUTH", Act::raw("334 " + b64("go") + "\r\n"));
        hop.reply_to(b64(raw).substr(0, 100), {235, "", "ok"});
        hop.reply_to("*", {501, "5.7.0", "as you like"});
        const auto login = std::make_shared<TestLogin>(Responses{std::nullopt, raw});
        const auto result = sent(logging_in(hop.address(), login));
        CHECK(result.delivered() == fits);
        CHECK(hop.finish().at(0).said("*") == !fits);

        SecureHop asking(good_tls(), with_auth);
        asking.on("AUTH", Act::raw("334 " + b64(raw) + "\r\n"));
        asking.reply_to(b64("fine"), {235, "", "ok"});
        const auto patient = std::make_shared<TestLogin>(Responses{std::nullopt, "fine"});
        const auto heard = sent(logging_in(asking.address(), patient));
        CHECK(heard.delivered() == fits);
        CHECK(patient->challenges == (fits ? Lines{raw} : Lines{}));
        if (!fits) CHECK(heard.reply.temporary());
    }
}

TEST_CASE("a login that is refused is 451 4.7.8 in the host's words, and nothing of the mail is said") {
    for (const auto& no :
         {Reply{535, "5.7.8", "Wrong\nthat is"}, Reply{534, "5.7.9", "Too weak"}, Reply{454, "4.7.0", "Not now"},
          Reply{432, "4.7.12", "Change it"}, Reply{500, "5.5.6", "Too long"}, Reply{250, "2.0.0", "fine"}}) {
        CAPTURE(no.str());
        SecureHop hop(good_tls(), with_auth);
        hop.reply_to("AUTH", no);
        const auto result = sent(logging_in(hop.address(), one_step()));
        auto words = no.str();
        std::ranges::replace(words, '\n', ' ');
        CHECK(result.reply == Reply{451, "4.7.8", "Authentication at " + hop.address() + " failed: " + words});
        CHECK(result.host == hop.address());
        const auto all = hop.finish();
        CHECK(all.size() == 1);
        CHECK(!mail_said(all));
        CHECK(all[0].end == Conversation::End::quit);
    }
}

TEST_CASE("a host that leaves in the middle of AUTH, stalls or talks nonsense, has the mail deferred") {
    const std::map<std::string, Act> faults{
        {"closes", Act::close()},
        {"resets", Act::reset()},
        {"421", Act(Reply{421, "4.7.0", "enough"}).then(Act::close())},
        {"no reply", Act::raw("hello\r\n")},
        {"354", Act::raw("354 go on\r\n")},
        {"334 to two lines", Act::raw("334-YQ==\r\n334 YQ==\r\n")},
        {"endless", Act::endless_lines("334-YQ==\r\n")},
        {"a line without end", Act::endless_line("334 ")},
        {"220", Act::raw("220 ready\r\n")},
        {"stalls", Act::stall()},
        {"answers twice", Act::raw("535 5.7.8 no\r\n235 2.7.0 yes\r\n")},
        {"yes, and more", Act::raw("235 2.7.0 yes\r\n250 fine\r\n250 fine\r\n354 go\r\n250 taken\r\n")},
    };
    for (const auto& fault : faults) {
        CAPTURE(fault.first);
        SecureHop hop(good_tls(), with_auth);
        hop.on("AUTH", fault.second);
        auto o = logging_in(hop.address(), one_step());
        o.patience.helo = 1s;
        const auto result = sent(o);
        CHECK(result.reply.temporary());
        CHECK(result.reply.text.find("sesame") == std::string::npos);
        const auto all = hop.finish();
        CHECK(all.size() == 1);
        CHECK(whole_mails(all) == 0);
        CHECK(!mail_said(all));
    }
}

TEST_CASE("a challenge that is no base64, or one too many, is answered by giving up") {
    for (const auto& challenge : {"334 not base64!\r\n", "334 YQ\r\n", "334 YQ==YQ==\r\n", "334 =\r\n"}) {
        CAPTURE(challenge);
        SecureHop hop(good_tls(), with_auth);
        hop.on("AUTH", Act::raw(challenge));
        hop.reply_to("*", {235, "2.7.0", "all the same, come in"});
        const auto login = std::make_shared<TestLogin>(Responses{std::nullopt, "a", "b"});
        const auto result = sent(logging_in(hop.address(), login));
        CHECK(result.reply.code == 451);
        CHECK(result.reply.status == "4.7.8");
        CHECK(login->challenges.empty());
        const auto all = hop.finish();
        CHECK(encrypted(all.at(0)) == Lines{"AUTH TEST", "*", "QUIT"});
    }
    SecureHop hop(good_tls(), with_auth);
    for (const auto* command : {"AUTH", "YQ=="}) hop.on(command, Act::raw("334 YQ==\r\n"));
    hop.reply_to("*", {501, "5.7.0", "at last"});
    const auto login = std::make_shared<TestLogin>(Responses(1000, "a"));
    CHECK(sent(logging_in(hop.address(), login)).reply.status == "4.7.8");
    CHECK(login->challenges.size() == 20);
    CHECK(hop.finish().at(0).said("*"));
}

TEST_CASE("a mechanism that gives up says '*', and no answer to that is a welcome") {
    for (const auto& answer : {Reply{501, "5.7.0", "aborted"}, Reply{235, "2.7.0", "welcome"}}) {
        SecureHop hop(good_tls(), with_auth);
        hop.on("AUTH", Act::raw("334 " + b64("r=forged") + "\r\n"));
        hop.reply_to("*", answer);
        const auto login = std::make_shared<TestLogin>(Responses{"first", std::nullopt});
        CHECK(sent(logging_in(hop.address(), login)).reply.status == "4.7.8");
        const auto all = hop.finish();
        CHECK(encrypted(all.at(0)) == Lines{"AUTH TEST " + b64("first"), "*", "QUIT"});
    }
}

TEST_CASE("235 of a server that has not proved itself is no welcome") {
    SecureHop hop(good_tls(), with_auth);
    hop.reply_to("AUTH", {235, "2.7.0", "welcome"});
    const auto login = one_step();
    login->proved = false;
    const auto result = sent(logging_in(hop.address(), login));
    CHECK(result.reply ==
          Reply{451, "4.7.8",
                "Authentication at " + hop.address() + " failed: " + hop.address() + " has not proved who it is"});
    CHECK(!mail_said(hop.finish()));
}

TEST_CASE("without a mechanism that both have it is 451 4.7.5, which says why") {
    SecureHop hop(good_tls(), with_auth);
    const auto none = std::make_shared<TestLogin>(Responses{}, "");
    CHECK(sent(logging_in(hop.address(), none)).reply ==
          Reply{451, "4.7.5", "No way to log in at " + hop.address() + ": none of its mechanisms may be used here"});
    SecureHop silent;
    CHECK(sent(logging_in(silent.address(), one_step())).reply ==
          Reply{451, "4.7.5", silent.address() + " offers no AUTH, which is required"});
    // What is offered in the clear only is not offered.
    SecureHop before(good_tls(), with_auth);
    before.on({.command = "EHLO", .nth = 2}, Reply{250, "", "hop.test"});
    CHECK(sent(logging_in(before.address(), one_step())).reply.status == "4.7.5");
    // Nor is a mechanism used that nobody has offered.
    SecureHop other(good_tls(), with_auth);
    const auto wild = std::make_shared<TestLogin>(Responses{"x"}, "WILD\r\nMAIL FROM:<>");
    CHECK(sent(logging_in(other.address(), wild)).reply.status == "4.7.8");
    for (auto* all : {&hop, &silent, &before, &other}) {
        const auto heard = all->finish();
        CHECK(!mail_said(heard));
        for (const auto& c : heard) CHECK(!c.said("AUTH"));
    }
}

TEST_CASE("what a Login throws is a login that failed, without its words") {
    SecureHop hop(good_tls(), with_auth);
    const auto login = one_step();
    login->thrown = true;
    const auto result = sent(logging_in(hop.address(), login));
    CHECK(result.reply.code == 451);
    CHECK(result.reply.status == "4.7.8");
    CHECK(result.reply.text.find("hunter2") == std::string::npos);
    CHECK(!mail_said(hop.finish()));
}

TEST_CASE("a host that repeats what was said to it is not quoted") {
    const std::string plain = std::string("\0joe\0sesame-opens", 17);
    for (const auto& words :
         {"no such thing: AUTH TEST " + b64(plain), std::string("joe may not use sesame-opens here")}) {
        SecureHop hop(good_tls(), with_auth);
        hop.reply_to("AUTH", {500, "5.5.2", words});
        const auto result = sent(logging_in(hop.address(), std::make_shared<TestLogin>(Responses{plain})));
        CHECK(result.reply.text ==
              "Authentication at " + hop.address() + " failed: 500 (what it says repeats what we said)");
    }
    // Nor where it leaves or answers what can be no answer.
    for (const int code : {421, 354, 221}) {
        SecureHop hop(good_tls(), with_auth);
        hop.reply_to("AUTH", {code, "", "no such thing: AUTH TEST " + b64(plain)});
        const auto result = sent(logging_in(hop.address(), std::make_shared<TestLogin>(Responses{plain})));
        CHECK(result.reply.temporary());
        CHECK(result.reply.text == "(what it says repeats what we said)");
    }
    // The name alone may be said.
    SecureHop hop(good_tls(), with_auth);
    hop.reply_to("AUTH", {535, "5.7.8", "no password for joe"});
    CHECK(
        sent(logging_in(hop.address(), std::make_shared<TestLogin>(Responses{plain}))).reply.text.ends_with("for joe"));
}

TEST_CASE("a secret that was refused for good is not tried at the next address, one deferred is") {
    for (const auto& no : {Reply{535, "5.7.8", "no"}, Reply{454, "4.7.0", "not now"}}) {
        CAPTURE(no.code);
        SecureHop first(good_tls(), with_auth);
        ScriptedServer second(offering(with_auth, "127.0.0.2:" + std::to_string(first.port())));
        second.on("STARTTLS", starting(good_tls()));
        const auto dns = std::make_shared<FakeResolver>();
        dns->add("smart.test", "A 127.0.0.1");
        dns->add("smart.test", "A 127.0.0.2");
        first.reply_to("AUTH", no);
        second.reply_to("AUTH", {235, "", "ok"});
        auto o = logging_in("smart.test:" + std::to_string(first.port()), one_step());
        o.resolver = dns;
        const auto result = sent(o);
        CHECK(result.delivered() == (no.code == 454));
        if (no.code == 535) CHECK(result.reply.status == "4.7.8");
        CHECK(second.conversations().empty() == (no.code == 535));
        CHECK(second.finish().size() == (no.code == 535 ? 0 : 1));
    }
}

TEST_CASE("who submitted the mail is passed on to a host that has AUTH, as RFC 4954 writes it") {
    const auto line = [](std::optional<std::string> auth, bool login, const Lines& keywords) {
        SecureHop hop(good_tls(), keywords);
        hop.reply_to("AUTH", {235, "", "ok"});
        Sender from("a@b.test");
        from.auth = std::move(auth);
        auto o = logging_in(hop.address(), login ? one_step() : nullptr, Level::verify);
        Relay(from, recipients({"c@d.test"}), short_text, o);
        const auto all = hop.finish();
        for (const auto& c : all.at(0).commands)
            if (c.starts_with("MAIL")) return c.substr(20);
        return std::string("no MAIL");
    };
    CHECK(line(std::nullopt, true, with_auth) == "");
    CHECK(line("", true, with_auth) == " AUTH=<>");
    CHECK(line("e+f=g@h.test", true, with_auth) == " AUTH=e+2Bf+3Dg@h.test");
    CHECK(line("x\r\nRCPT", true, with_auth) == " AUTH=x+0D+0ARCPT");
    CHECK(line(std::string(494, 'x'), true, with_auth) == " AUTH=" + std::string(494, 'x'));
    CHECK(line(std::string(495, 'x'), true, with_auth) == " AUTH=<>");
    CHECK(line("x@y", false, with_auth) == "");
    CHECK(line("x@y", false, {"STARTTLS"}) == "");
}

TEST_CASE("a kept connection is its user's, and logs in once") {
    SecureHop hop(good_tls(), with_auth);
    hop.reply_to("AUTH", {235, "", "ok"});
    const auto sessions = std::make_shared<SessionCache>();
    const auto mine = one_step(), theirs = one_step();
    auto o = logging_in(hop.address(), nullptr, Level::verify);
    o.sessions = sessions;
    for (const auto& login : std::vector<std::shared_ptr<Login>>{mine, mine, theirs, nullptr, mine, theirs, nullptr}) {
        o.login = login;
        CHECK(sent(o).delivered());
    }
    CHECK(sessions->idle() == 3);
    CHECK(hop.conversations().size() == 3);
    CHECK(mine->offers.size() == 1);
    CHECK(theirs->offers.size() == 1);
}

TEST_CASE("with at_rcpt the client hears 451 at RCPT, and a refused secret is tried once for all of them") {
    SecureHop hop(good_tls(), with_auth);
    hop.reply_to("AUTH", {535, "5.7.8", "no"});
    auto o = logging_in(hop.address(), one_step());
    o.at_rcpt = true;
    const auto setup = relaying(o);
    dialogue(R"(
        S: 220
        C: EHLO me.test
        S: 250
        C: MAIL FROM:<a@b.test>
        S: 250
        C: RCPT TO:<c@d.test>
        S: 451 4.7.8
        C: RCPT TO:<e@d.test>
        S: 451 4.7.8
        C: QUIT
        S: 221
    )",
             setup);
    CHECK(hop.finish().size() == 1);
}

TEST_CASE("a next hop that wants TLS or a login we have not: the client may come again, and the program hears why") {
    for (const Reply& wish :
         {Reply{530, "5.7.0", "Authentication required"}, Reply{538, "5.7.11", "Encryption required"},
          Reply{535, "5.7.8", "who?"}, Reply{534, "", "too weak"}})
        for (const bool at_rcpt : {false, true}) {
            CAPTURE(wish.code);
            CAPTURE(at_rcpt);
            ScriptedServer hop;
            hop.reply_to("MAIL", wish);
            auto o = through(hop.address(), asking(Level::none));
            o.at_rcpt = at_rcpt;
            const auto setup = relaying(o);
            const std::string refused = "S: 451 " + (wish.status.empty() ? "" : '4' + wish.status.substr(1));
            const auto played = dialogue(
                "S: 220\nC: EHLO me.test\nS: 250\nC: MAIL FROM:<a@b.test>\nS: 250\n"
                "C: RCPT TO:<c@d.test>\n" +
                    (at_rcpt ? refused : "S: 250\nC: DATA\nS: 354\nC: x\nC: .\n" + refused) + "\nC: QUIT\nS: 221",
                setup);
            REQUIRE(played.troubles.size() == 1);
            CHECK(played.troubles[0].find(wish.text) != std::string::npos);
        }
}

TEST_CASE("a certificate or login that is not good is told to the program, each time") {
    SecureHop hop(tls_of(stranger().issue(good)), with_auth);
    auto o = through(hop.address(), asking(Level::verify));
    Setup setup;
    setup.listeners = [](Server&) {};
    setup.handler = [o](Server::Client& c) { Relay(c.FROM, c.TO, c.MSG, o); };
    const std::string deferred =
        "C: MAIL FROM:<a@b.test>\nS: 250\nC: RCPT TO:<c@d.test>\nS: 250\nC: DATA\nS: 354\nC: x\nC: .\nS: 451 4.7.5\n";
    const auto played = dialogue("S: 220\nC: EHLO me.test\nS: 250\n" + deferred + deferred + "C: QUIT\nS: 221", setup);
    REQUIRE(played.troubles.size() == 2);
    CHECK(played.troubles[0].find("does not verify: ") != std::string::npos);
}

TEST_CASE("a login without a smart host is refused, and over a Unix socket it needs no TLS") {
    auto o = logging_in("", one_step());
    CHECK_THROWS_WITH_AS(sent(o), "Relay::Options: login: without host", std::invalid_argument);
    o.resolver = std::make_shared<FakeResolver>();
    CHECK_THROWS_AS(sent(o), std::invalid_argument);

    const Folder folder;
    ScriptedServer local(offering({"AUTH TEST"}, "unix:" + (folder / "socket")));
    local.reply_to("AUTH", {235, "", "ok"});
    CHECK(sent(logging_in("unix:" + (folder / "socket"), one_step())).delivered());
}

TEST_CASE("offered() says which mechanisms there are without trying one") {
    SecureHop hop(good_tls(), with_auth);
    const auto offer = Relay::offered(logging_in(hop.address(), one_step()));
    CHECK(offer.extensions.auth);
    CHECK(offer.mechanisms == Lines{"TEST", "OTHER"});
    CHECK(!hop.finish().at(0).said("AUTH"));
    // What a login asks of TLS is asked for here too.
    SecureHop unknown(tls_of(stranger().issue(good)), with_auth);
    Reply why;
    CHECK(!Relay::offered(logging_in(unknown.address(), one_step()), &why).extensions.auth);
    CHECK(why.status == "4.7.5");
}

// ---- with a server of our own ----

namespace {

std::shared_ptr<Sasl> accounts(const Lines& without = {}) {
    AccountFunctions::Functions f;
    f.clear_password = [](const std::string& user) {
        return user == "joe" ? std::optional<std::string>("sesame-opens") : std::nullopt;
    };
    f.token = [](const std::string&, const std::string& token, const Channel&) {
        return token == "a-token" ? std::optional<std::string>("joe") : std::nullopt;
    };
    return std::make_shared<Sasl>(
        Sasl::Options{.accounts = std::make_shared<AccountFunctions>(std::move(f)), .without = without});
}

Options requiring(std::shared_ptr<Authenticator> auth) {
    Options o;
    o.hostname = "mail.test";
    o.tls = good_tls();
    o.require_tls = o.require_auth = true;
    o.auth = std::move(auth);
    o.auth_delay = 0s;
    return o;
}

}  // namespace

TEST_CASE("a relay logs in at a server of ours by each mechanism") {
    Test::MailServer server(requiring(accounts()));
    std::vector<std::string> used;
    std::mutex mutex;
    server.server().on<Event::Auth>([&](Event::Auth& e) {
        const std::lock_guard lock(mutex);
        used.emplace_back(e.mechanism);
    });
    const Lines all{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"};
    for (const auto& mechanism : all) {
        CAPTURE(mechanism);
        SaslLogin::Options who{.user = "joe", .password = "sesame-opens", .mechanisms = {mechanism}};
        if (mechanism.find("OAUTH") != mechanism.npos) who.token = [] { return "a-token"; };
        const auto result = sent(logging_in(server.address(), std::make_shared<SaslLogin>(who)));
        CHECK(result.reply.str().starts_with("250"));
        who.password = "sesame";
        if (who.token) who.token = [] { return "another"; };
        const auto refused = sent(logging_in(server.address(), std::make_shared<SaslLogin>(who)));
        CHECK(refused.reply.code == 451);
        CHECK(refused.reply.status == "4.7.8");
    }
    const auto mails = server.wait_for(all.size());
    CHECK(mails.size() == all.size());
    for (const auto& mail : mails) CHECK(mail.protocol == "ESMTPSA");
    const auto strongest = sent(logging_in(server.address(), std::make_shared<SaslLogin>("joe", "sesame-opens")));
    CHECK(strongest.delivered());
    const std::lock_guard lock(mutex);
    CHECK(used.back() == "SCRAM-SHA-256-PLUS");
}

TEST_CASE("a password is shown in clear text to a verified host only") {
    Options o = requiring(std::make_shared<Test::Users>(std::map<std::string, std::string>{{"joe", "sesame-opens"}}));
    o.tls = tls_of({.names = {"other.test"}});
    o.require_tls = false;
    o.clear_auth = ClearAuth::loopback;
    Test::MailServer server(o);
    const auto login = std::make_shared<SaslLogin>("joe", "sesame-opens");
    for (const auto level : {Level::none, Level::may, Level::must})
        CHECK(sent(logging_in(server.address(), login, level)).reply.status == "4.7.5");
    SaslLogin::Options named{.user = "joe", .password = "sesame-opens", .clear_text = {"PLAIN"}};
    CHECK(sent(logging_in(server.address(), std::make_shared<SaslLogin>(named), Level::must)).delivered());
}
