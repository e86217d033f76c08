// kit_security -- the kit's MailServer over TLS and with AUTH: its certificates and its users.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <Net/SMTP/Relay/ClientTLS.hpp>

#include "../Server/Base64.hpp"
#include "peer.hpp"

using namespace test;
using Test::Failure;
using Test::MailServer;
using namespace std::string_literals;

namespace {

Options guarded(std::shared_ptr<Authenticator> auth) {
    return {.auth = std::move(auth), .clear_auth = ClearAuth::loopback, .require_auth = true, .auth_delay = 0s};
}

Relay::Options to(const MailServer& server, const std::string& ca = "") {
    return {.host = server.address(),
            .tls = ClientTLS({.level = ca.empty() ? ClientTLS::Level::may : ClientTLS::Level::verify, .ca = ca}),
            .hostname = "me.test",
            .received = false};
}

bool sent(const Relay::Options& options) {
    return Relay(Sender("a@b"), {Recipient("c@d")}, Message("Subject: x\r\n\r\nhello\r\n"), options).delivered();
}

// The reply to the last of the lines, said after EHLO.
std::string answer(const MailServer& server, std::initializer_list<std::string> lines) {
    Wire wire(server.address());
    wire.play("S: 220\nC: EHLO me\nS: 250");
    std::string reply;
    for (const auto& line : lines) {
        wire.say(line);
        reply = wire.reply();
    }
    return reply;
}

std::string plain(const std::string& user, const std::string& password, const std::string& acts_as = "") {
    return base64_encode(acts_as + '\0' + user + '\0' + password);
}

}  // namespace

TEST_CASE("kit: a client that believes the authority gets through STARTTLS, and the mail says what it came by") {
    Test::Certificates authority;
    MailServer server({.tls = authority.server()});
    CHECK(sent(to(server, authority.file())));
    const auto mail = server.wait_for(1).front();
    CHECK(mail.protocol == "ESMTPS");
    CHECK_FALSE(mail.cipher.empty());
    CHECK(mail.user.empty());
}

TEST_CASE("kit: TLS may begin at once, and the plain connection stays plain") {
    Test::Certificates authority;
    const Options options{.tls = authority.server()};
    MailServer server(options, "tls:127.0.0.1:0");
    auto next = to(server);
    next.tls = ClientTLS({.level = ClientTLS::Level::verify, .implicit = true, .ca = authority.file()});
    CHECK(sent(next));
    CHECK(server.wait_for(1).front().protocol == "ESMTPS");

    MailServer in_the_clear(options);
    CHECK(sent({.host = in_the_clear.address(),
                .tls = ClientTLS({.level = ClientTLS::Level::none}),
                .hostname = "me.test",
                .received = false}));
    CHECK(in_the_clear.wait_for(1).front().protocol == "ESMTP");
    CHECK(in_the_clear.mails().front().cipher.empty());
}

TEST_CASE("kit: another authority, another name and a time gone by are what a careful client refuses") {
    Test::Certificates authority, other;
    const auto refused = [&](const Test::Wanted& wanted, const std::string& ca) {
        MailServer server({.tls = authority.server(wanted)});
        return !sent(to(server, ca)) && server.mails().empty();
    };
    const std::vector<std::string> here{"IP:127.0.0.1"};
    CHECK_FALSE(refused({.names = here}, authority.file()));
    CHECK_FALSE(refused({.names = here, .rsa = true, .intermediate = true}, authority.file()));
    CHECK(refused({.names = here}, other.file()));
    CHECK(refused({.names = {"mail.test"}}, authority.file()));
    CHECK(refused({.names = here, .self_signed = true}, authority.file()));
    CHECK(refused({.names = here, .client = true}, authority.file()));
    CHECK(refused({.names = here, .from = -7200, .to = -3600}, authority.file()));
    CHECK(refused({.names = here, .from = 3600, .to = 7200}, authority.file()));
}

TEST_CASE("kit: certificates are files that go away with their authority, the keys nobody else's to read") {
    std::string folder;
    std::shared_ptr<ServerTLS> server;
    {
        Test::Certificates authority;
        const auto files = authority.issue({.names = {"mx.test"}});
        folder = std::filesystem::path(files.key).parent_path();
        struct stat status {};
        REQUIRE(stat(files.key.c_str(), &status) == 0);
        CHECK((status.st_mode & 0777) == 0600);
        CHECK(Test::Certificates::der(files.certificate).size() > 200);
        CHECK(Test::Certificates::sha256(files.certificate).size() == 32);
        CHECK(Test::Certificates::sha256(files.certificate) != Test::Certificates::sha256(files.certificate, true));
        const auto before = Test::Certificates::sha256(files.certificate);
        authority.issue({.names = {"mx.test"}}, files);
        CHECK(Test::Certificates::sha256(files.certificate) != before);
        server = authority.server();
    }
    CHECK_FALSE(std::filesystem::exists(folder));
    MailServer still({.tls = server});
    CHECK(sent(to(still)));
    CHECK_FALSE(still.wait_for(1).front().cipher.empty());
    CHECK_THROWS_AS(Test::Certificates().issue({.names = {"IP:somewhere"}}), std::runtime_error);
    CHECK_THROWS_AS(Test::Certificates::der("/nowhere"), std::runtime_error);
}

TEST_CASE("kit: users are who they say by PLAIN and LOGIN with the right password only") {
    MailServer server(guarded(Test::users({{"joe", "secret"}, {"", "empty"}})));
    CHECK(answer(server, {"MAIL FROM:<a@b>"}).starts_with("530 5.7.0"));
    CHECK(answer(server, {"EHLO me"}).find("AUTH PLAIN LOGIN") != std::string::npos);
    CHECK(answer(server, {"AUTH PLAIN " + plain("joe", "secret")}).starts_with("235 2.7.0"));
    CHECK(answer(server, {"AUTH PLAIN " + plain("joe", "secret", "joe")}).starts_with("235"));
    CHECK(answer(server, {"AUTH PLAIN", plain("joe", "secret")}).starts_with("235"));
    CHECK(answer(server, {"AUTH LOGIN", base64_encode("joe"), base64_encode("secret")}).starts_with("235"));
    CHECK(answer(server, {"AUTH LOGIN " + base64_encode("joe"), base64_encode("secret")}).starts_with("235"));
    for (const auto& wrong : {plain("joe", "Secret"), plain("joe", ""), plain("joe", "secret", "jane"),
                              plain("jane", "secret"), plain("", "empty"), base64_encode("joe"), "="s})
        CHECK(answer(server, {"AUTH PLAIN " + wrong}).starts_with("535 5.7.8"));
    CHECK(answer(server, {"AUTH LOGIN", base64_encode("joe"), base64_encode("no")}).starts_with("535 5.7.8"));
    CHECK(answer(server, {"AUTH CRAM-MD5"}).starts_with("504 5.5.4"));
}

TEST_CASE("kit: which mechanisms there are can be chosen, of those there are") {
    MailServer server(guarded(
        std::make_shared<Test::Users>(std::map<std::string, std::string>{{"joe", "secret"}}, std::vector{"LOGIN"s})));
    CHECK(answer(server, {"AUTH PLAIN " + plain("joe", "secret")}).starts_with("504"));
    CHECK(answer(server, {"AUTH LOGIN", base64_encode("joe"), base64_encode("secret")}).starts_with("235"));
    CHECK_THROWS_AS(Test::Users({}, {"SCRAM-SHA-1"}), std::invalid_argument);
}

TEST_CASE("kit: a mail says who had authenticated") {
    MailServer server(guarded(Test::users({{"joe", "secret"}})));
    Wire wire(server.address());
    wire.play("S: 220\nC: EHLO me\nS: 250\nC: AUTH PLAIN " + plain("joe", "secret") +
              "\nS: 235\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\nC: DATA\nS: 354\nC: .\nS: 250");
    const auto mail = server.wait_for(1).front();
    CHECK(mail.user == "joe");
    CHECK(mail.protocol == "ESMTPA");
}

TEST_CASE("kit: AUTH is refused, dropped and delayed like any other command, but nobody is let in by a rule") {
    MailServer server(guarded(Test::users({{"joe", "secret"}})));
    const auto right = "AUTH PLAIN " + plain("joe", "secret"), wrong = "AUTH PLAIN " + plain("joe", "x");
    server.reply_to("AUTH", {454, "4.7.0", "Not now"}, 1);
    CHECK(answer(server, {right}) == "454 4.7.0 Not now");
    CHECK(answer(server, {right}).starts_with("235"));
    server.reply_to("AUTH PLAIN", {535, "5.7.8", "Not by PLAIN"});
    CHECK(answer(server, {right}) == "535 5.7.8 Not by PLAIN");
    CHECK(answer(server, {"AUTH LOGIN", base64_encode("joe"), base64_encode("secret")}).starts_with("235"));
    server.be_polite();
    server.reply_to("auth", {235, "2.7.0", "Welcome"});
    CHECK(answer(server, {right}) == "235 2.7.0 Welcome");
    CHECK(answer(server, {wrong}).starts_with("535"));
    server.be_polite();
    server.drop("AUTH", 1);
    CHECK_THROWS_AS(answer(server, {right}), Failure);
    CHECK(answer(server, {right}).starts_with("235"));
    const auto began = Clock::now();
    server.delay("AUTH", 60ms);
    CHECK(answer(server, {right}).starts_with("235"));
    CHECK(Clock::now() - began >= 60ms);
    CHECK_THROWS_AS(server.reply_to("AUTH", {250, "", "no"}), std::invalid_argument);
    CHECK_THROWS_AS(server.reply_to("AUTH", {334, "", "no"}), std::invalid_argument);
    CHECK_THROWS_AS(server.reply_to("AUTHPLAIN", {535, "", "no"}), std::invalid_argument);
}
