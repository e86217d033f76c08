// sasl -- tests of Sasl: what is offered to whom, every mechanism by its RFC's examples, and what a client may send.
#include "sasl.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>

#include "../Server/Base64.hpp"
#include "../Server/Gsasl.hpp"
#include "../Server/SaslCrypto.hpp"
#include "../Server/SaslMechanisms.hpp"
#include "../Server/SaslScram.hpp"

using namespace test;
using namespace std::string_literals;
using Names = std::vector<std::string>;

namespace {

AuthExchange::Step only_step(Authenticator& sasl, const char* mechanism, const Line& line, const std::string& message) {
    auto exchange = sasl.begin(mechanism, line.channel);
    REQUIRE(exchange);
    return exchange->step(message);
}

std::string decoded(std::string_view text) {
    std::string octets;
    REQUIRE(base64_decode(text, octets));
    return octets;
}

std::shared_ptr<Accounts> with_everything() {
    return accounts({.password = [](auto&, auto&, auto&) { return false; },
                     .clear_password = [](auto&) { return std::nullopt; },
                     .token = [](auto&, auto&, auto&) { return std::nullopt; },
                     .certificate = [](auto&, auto&, auto&) { return std::nullopt; }});
}

}  // namespace

// ---- what is offered ----

TEST_CASE("what accounts can be asked for is offered, the strongest first") {
    Line clear, bound;
    bound.encrypt().bind();
    Sasl all(with_everything());
    CHECK(all.mechanisms(clear.channel) ==
          Names{"SCRAM-SHA-256", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"});
    CHECK(all.mechanisms(bound.channel) == Names{"EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5",
                                                 "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN"});
    CHECK(Sasl(with_password("u", "p")).mechanisms(bound.channel) == Names{"PLAIN", "LOGIN"});
    CHECK(Sasl(with_keys("u", "p")).mechanisms(clear.channel) == Names{"SCRAM-SHA-256", "PLAIN", "LOGIN"});
    CHECK(Sasl(with_token("u", "t")).mechanisms(clear.channel) == Names{"OAUTHBEARER", "XOAUTH2"});
    CHECK(Sasl(accounts({})).mechanisms(bound.channel).empty());
}

TEST_CASE("CRAM-MD5 is offered only where every account holds a password") {
    Line line;
    auto some =
        accounts({.keys = [](auto&) { return std::nullopt; }, .clear_password = [](auto&) { return std::nullopt; }});
    CHECK(Sasl(some).mechanisms(line.channel) == Names{"SCRAM-SHA-256", "PLAIN", "LOGIN"});
    CHECK_FALSE(Sasl(some).begin("CRAM-MD5", line.channel));
}

TEST_CASE("EXTERNAL is offered only to a verified certificate") {
    auto proved = accounts({.certificate = [](auto&, auto&, auto&) { return "u"; }});
    Sasl sasl(proved);
    Line clear, unverified, verified, without;
    unverified.encrypt(false);
    verified.encrypt();
    without.encrypt().tls.peer.reset();
    CHECK(sasl.mechanisms(clear.channel).empty());
    CHECK(sasl.mechanisms(unverified.channel).empty());
    CHECK(sasl.mechanisms(without.channel).empty());
    CHECK(sasl.mechanisms(verified.channel) == Names{"EXTERNAL"});
    for (auto* line : {&clear, &unverified, &without}) CHECK_FALSE(sasl.begin("EXTERNAL", line->channel));
}

TEST_CASE("-PLUS is offered only where the channel has data to bind to") {
    Sasl sasl(with_keys("u", "p"));
    const auto offers = [&](const Line& l) {
        return std::ranges::count(sasl.mechanisms(l.channel), "SCRAM-SHA-256-PLUS");
    };
    Line clear, bare, exporter, unique, neither;
    bare.encrypt();
    exporter.encrypt().bind("tls-exporter");
    unique.encrypt().bind("tls-unique");
    neither.encrypt().bind("tls-exporter", "");
    CHECK(offers(clear) == 0);
    CHECK(offers(bare) == 0);
    CHECK(offers(neither) == 0);
    CHECK(offers(exporter) == 1);
    CHECK(offers(unique) == 1);
    CHECK_FALSE(sasl.begin("SCRAM-SHA-256-PLUS", bare.channel));
}

TEST_CASE("a program leaves mechanisms out and brings its own") {
    struct Yes : AuthExchange {
        Step step(std::optional<std::string_view>) override { return {Step::Is::success, "", "somebody", ""}; }
    };
    const auto yes = [](const Channel&) { return std::make_unique<Yes>(); };
    Line line;
    Sasl sasl({.accounts = with_password("u", "p"),
               .without = {"LOGIN"},
               .own = {{"X-YES", yes}, {"X-NEVER", yes, [](const Channel&) { return false; }}, {"PLAIN", yes}}});
    CHECK(sasl.mechanisms(line.channel) == Names{"PLAIN", "X-YES"});
    CHECK_FALSE(sasl.begin("LOGIN", line.channel));
    CHECK_FALSE(sasl.begin("X-NEVER", line.channel));
    CHECK_FALSE(sasl.begin("", line.channel));
    CHECK_FALSE(sasl.begin("plain", line.channel));
    CHECK(only_step(sasl, "PLAIN", line, "").user == "somebody");
    CHECK(only_step(sasl, "X-YES", line, "").user == "somebody");

    const auto own = [&](std::string name) {
        return Sasl({.accounts = with_password("u", "p"), .own = {{name, yes}}});
    };
    for (const char* bad : {"", "small", "A B", "A=", "TWENTY-ONE-CHARACTERS"}) {
        CAPTURE(bad);
        CHECK_THROWS_AS(own(bad), std::invalid_argument);
    }
    CHECK_NOTHROW(own("TWENTY-CHARACTERS-20"));
    CHECK_THROWS_AS(Sasl({.accounts = with_password("u", "p"), .own = {{"X", nullptr}}}), std::invalid_argument);
    CHECK_THROWS_AS(Sasl({.accounts = with_password("u", "p"), .own = {{"X", yes}, {"X", yes}}}),
                    std::invalid_argument);
    CHECK_THROWS_AS(Sasl({.accounts = with_password("u", "p"), .without = {"CRAM-MD-5"}}), std::invalid_argument);
    CHECK_THROWS_AS(Sasl(std::shared_ptr<Accounts>()), std::invalid_argument);
}

TEST_CASE("only who is named is trusted about submitters") {
    Sasl sasl({.accounts = with_password("u", "p"), .trusted = {"gateway"}});
    CHECK(sasl.trusted("gateway"));
    CHECK_FALSE(sasl.trusted("Gateway"));
    CHECK_FALSE(sasl.trusted(""));
}

// ---- PLAIN (RFC 4616) and LOGIN ----

TEST_CASE("the examples of RFC 4616 section 4") {
    Sasl sasl([](auto& user, auto& password, auto&) { return user == "tim" && password == "tanstaaftanstaaf"; });
    Line line;
    const auto first = only_step(sasl, "PLAIN", line, "\0tim\0tanstaaftanstaaf"s);
    CHECK(first.is == Is::success);
    CHECK(first.user == "tim");
    CHECK(first.data == "");

    std::string asked;
    Sasl ken(accounts({.password = [](auto& u, auto& p, auto&) { return u == "Kurt" && p == "xipj3plmq"; },
                       .may_be = [&](auto& u, auto& other) { return asked = u + ">" + other, other == "Ursel"; }}));
    const auto second = only_step(ken, "PLAIN", line, "Ursel\0Kurt\0xipj3plmq"s);
    CHECK(second.is == Is::success);
    CHECK(second.user == "Ursel");
    CHECK(second.proved == "Kurt");
    CHECK(only_step(ken, "PLAIN", line, "Kurt\0Kurt\0xipj3plmq"s).proved == "");
    CHECK(asked == "Kurt>Ursel");
    CHECK(only_step(ken, "PLAIN", line, "Other\0Kurt\0xipj3plmq"s).is == Is::failure);
}

TEST_CASE("PLAIN: the authorization identity is empty, the user's own name, or fails") {
    Sasl sasl(with_password("tim", "secret"));
    Line line;
    CHECK(only_step(sasl, "PLAIN", line, "tim\0tim\0secret"s).is == Is::success);
    const auto other = only_step(sasl, "PLAIN", line, "root\0tim\0secret"s);
    CHECK(other.is == Is::failure);
    CHECK(other.user == "tim");
}

TEST_CASE("PLAIN: what is no message of three parts fails, without a question to the accounts") {
    int asked = 0;
    Sasl sasl([&](auto&, auto&, auto&) { return ++asked > 0; });
    Line line;
    for (const auto& text :
         {""s, "tim"s, "\0"s, "\0tim"s, "\0\0"s, "\0\0secret"s, "\0tim\0"s, "\0tim\0sec\0ret"s, "\0tim\0secret\0"s,
          "\0t\xff\xfe\0secret"s, "\0tim\0\x01"s, "\0"s + std::string(1025, 'u') + "\0p"s, std::string(12'289, '\0'),
          "\0u\0"s + std::string(12'000, 'p')}) {
        CAPTURE(text.size());
        const auto step = only_step(sasl, "PLAIN", line, text);
        CHECK(step.is == Is::failure);
        CHECK(step.reason.find("secret") == std::string::npos);
    }
    CHECK(asked == 0);
    CHECK(only_step(sasl, "PLAIN", line, "\0"s + std::string(1024, 'u') + "\0p"s).is == Is::success);
    CHECK(asked == 1);
}

TEST_CASE("PLAIN without an initial response asks for it by an empty challenge") {
    Sasl sasl(with_password("tim", "secret"));
    Line line;
    auto exchange = sasl.begin("PLAIN", line.channel);
    CHECK(exchange->client_first());
    const auto step = exchange->step(std::nullopt);
    CHECK(step.is == Is::challenge);
    CHECK(step.data == "");
    CHECK(exchange->step("\0tim\0secret"s).is == Is::success);
    CHECK(exchange->step("\0tim\0secret"s).is == Is::failure);  // it is over
}

TEST_CASE("LOGIN asks for a name, then for a password") {
    Sasl sasl(with_password("tim", "secret"));
    Line line;
    auto exchange = sasl.begin("LOGIN", line.channel);
    CHECK(exchange->step(std::nullopt).data == "Username:");
    CHECK(exchange->step("tim").data == "Password:");
    CHECK(exchange->step("secret").is == Is::success);

    auto initial = sasl.begin("LOGIN", line.channel);
    CHECK(initial->step("tim").data == "Password:");
    CHECK(initial->step("secret").user == "tim");

    auto wrong = sasl.begin("LOGIN", line.channel);
    CHECK(wrong->step("").data == "Password:");
    CHECK(wrong->step("secret").is == Is::failure);
}

TEST_CASE("a password is checked against SCRAM keys and against a kept password") {
    Line line;
    for (auto kept : {with_keys("tim", "secret"), with_clear_password("tim", "secret")}) {
        Sasl sasl(kept);
        CHECK(only_step(sasl, "PLAIN", line, "\0tim\0secret"s).is == Is::success);
        CHECK(only_step(sasl, "PLAIN", line, "\0tim\0Secret"s).is == Is::failure);
        CHECK(only_step(sasl, "PLAIN", line, "\0Tim\0secret"s).is == Is::failure);
    }
}

TEST_CASE("names and passwords are prepared by SASLprep") {
    std::string user, password;
    Sasl sasl([&](auto& u, auto& p, auto&) { return user = u, password = p, true; });
    Line line;
    const auto plain = [&](const std::string& u, const std::string& p) {
        return only_step(sasl, "PLAIN", line, "\0"s + u + "\0"s + p).is == Is::success;
    };
    // RFC 4013 3
    CHECK(plain("I\xc2\xadX", "p"));
    CHECK(user == "IX");
    CHECK(plain("USER", "\xc2\xaa"));
    CHECK(user == "USER");
    CHECK(password == "a");
    CHECK(plain("\xe2\x85\xa8", "p"));
    CHECK(user == "IX");
    CHECK_FALSE(plain("\x07", "p"));
    CHECK_FALSE(plain("\xd8\xa7\x31", "p"));
    // A composed and a decomposed letter are the same one; a space is a space.
    CHECK(plain("m\x75\xcc\x88ller", "gr\xc3\xbc\xc3\x9f\xc2\xa0"));
    CHECK(user == "m\xc3\xbcller");
    CHECK(password == "gr\xc3\xbc\xc3\x9f ");
    CHECK_FALSE(plain("\xc2\xad", "p"));          // nothing is left
    CHECK_FALSE(plain("a\xc3", "p"));             // cut off
    CHECK_FALSE(plain("\xc0\xae", "p"));          // an overlong '.'
    CHECK_FALSE(plain("\xed\xa0\x80", "p"));      // a surrogate
    CHECK_FALSE(plain("\xf4\x90\x80\x80", "p"));  // beyond Unicode
    CHECK_FALSE(plain("u", "\x7f"));
}

// ---- SCRAM-SHA-256 (RFC 5802, RFC 7677) ----

namespace {

// RFC 7677 3.
const std::string client_nonce = "rOprNGfwEbeRWgbNEkqO", server_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const std::string client_first = "n,,n=user,r=" + client_nonce;
const std::string server_first =
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const std::string client_final =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const std::string server_final = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

std::shared_ptr<Accounts> pencil() {
    auto keys = scram_keys("pencil", 4096, decoded("W22ZaJ0SNY7soEsUEjb6gQ=="));
    return accounts({.keys = [keys](auto& u) { return u == "user" ? std::optional(keys) : std::nullopt; }});
}

std::unique_ptr<AuthExchange> rfc7677(const Line& line, ScramTerms terms = {}) {
    terms.nonce = server_nonce;
    return scram_exchange(std::make_shared<const Judge>(pencil(), "k"), line.channel, terms);
}

// What the accounts' client would answer, whatever it is to answer falsely.
std::string final_message(const std::string& first, const std::string& bare, const std::string& bound,
                          const std::string& password) {
    auto server = Scram::read_server_first(first);
    REQUIRE(server);
    const auto salted = pbkdf2_sha256(password, server->salt, server->iterations);
    const auto without_proof = "c=" + base64_encode(bound) + ",r=" + server->nonce;
    const auto keys = keys_of(salted, server->iterations, server->salt);
    return without_proof + ",p=" +
           base64_encode(
               Scram::proof(client_key(salted), keys.stored_key, Scram::dialogue(bare, first, without_proof)));
}

AuthExchange::Step scram(AuthExchange& exchange, const std::string& header, const std::string& user,
                         const std::string& bound, const std::string& password) {
    const auto bare = "n=" + user + ",r=abcdefgh";
    const auto first = exchange.step(header + bare);
    if (first.is != Is::challenge) return first;
    return exchange.step(final_message(first.data, bare, bound, password));
}

}  // namespace

TEST_CASE("the example of RFC 7677 section 3") {
    Line line;
    auto exchange = rfc7677(line);
    const auto first = exchange->step(client_first);
    CHECK(first.is == Is::challenge);
    CHECK(first.data == server_first);
    const auto last = exchange->step(client_final);
    CHECK(last.is == Is::success);
    CHECK(last.data == server_final);
    CHECK(last.user == "user");
    CHECK(exchange->step(client_final).is == Is::failure);
}

TEST_CASE("SCRAM: a first message that is not of its form fails") {
    Line line;
    for (const auto& text : {""s,
                             "n"s,
                             "n,"s,
                             "n,,"s,
                             "n,,n=user"s,
                             "n,,n=user,"s,
                             "n,,n=user,r="s,
                             "n,,n=,r=abc"s,
                             "n,,r=abc,n=user"s,
                             "x,,n=user,r=abc"s,
                             "N,,n=user,r=abc"s,
                             "n,b=x,n=user,r=abc"s,
                             "n,a=,n=user,r=abc"s,
                             "n,a=u=,n=user,r=abc"s,
                             "n,a=user,"s,  // nothing is behind the header
                             "n,,m=x,n=user,r=abc"s,
                             "n,,n=user,r=abc,m=x"s,
                             "n,,n=user,r=abc,"s,
                             "n,,n=user,r=abc,x"s,
                             "n,,n=user,r=abc,1=x"s,
                             "n,,n=user,r=abc,x="s,
                             "n,,n=us=41er,r=abc"s,
                             "n,,n=user=,r=abc"s,
                             "n,,n=us=2cer,r=abc"s,
                             "n,,n=us\0er,r=abc"s,
                             "n,,n=user,r=a\0bc"s,
                             "n,,n=user,r=a\x01"
                             "bc"s,
                             "n,,n=user,r=a\x7f"s,
                             "n,,n=user,r=a c"s,
                             "n,,n=user,r=\xc3\xa4"s,
                             "p,,n=user,r=abc"s,
                             "p=,,n=user,r=abc"s,
                             "p=tls-exporter,,n=user,r=abc"s,
                             "n=x,,n=user,r=abc"s,
                             "n,,n=\xff,r=abc"s,
                             "n,,n=\x07,r=abc"s,
                             "n,,n=user,r="s + std::string(1025, 'a'),
                             "n,,n="s + std::string(1025, 'a') + ",r=abc",
                             "n,,n=user,r=abc,x="s + std::string(12'288, 'x')}) {
        CAPTURE(text.substr(0, 40));
        auto exchange = rfc7677(line);
        CHECK(exchange->step(text).is == Is::failure);
        CHECK(exchange->step(client_final).is == Is::failure);
    }
    for (const auto& text : {"n,,n=user,r=a"s, "y,,n=user,r=abc"s, "n,a=user,n=user,r=abc"s, "n,,n=user,r=abc,x=y,z=."s,
                             "n,,n=us=3Der=2C,r=abc"s, "n,,n=user,r="s + std::string(1024, 'a')}) {
        CAPTURE(text.substr(0, 40));
        CHECK(rfc7677(line)->step(text).is == Is::challenge);
    }
}

TEST_CASE("SCRAM: a final message that is not of its form, or not this exchange's, fails") {
    Line line;
    const auto without = [&](const std::string& what) {
        auto text = client_final;
        return text.erase(text.find(what), what.size());
    };
    auto other_proof = client_final, other_nonce = client_final;
    other_proof[other_proof.find("dHzb")] = 'e';
    other_nonce.replace(other_nonce.find("hNlF"), 4, "hNlG");
    for (const auto& text : {""s,
                             "c"s,
                             "p="s,
                             ",p="s,
                             "c=biws"s,
                             without("c=biws,"),
                             without("$k0"),
                             without("dHzbZapW"),
                             without("VQ="),
                             without("biws"),
                             other_proof,
                             other_nonce,
                             client_final + ",x=y",
                             client_final + '\0',
                             client_final + "=",
                             "c=biwx" + client_final.substr(6),
                             "c=eSws" + client_final.substr(6),
                             "x=y," + client_final,
                             client_first,
                             client_final + std::string(12'288, 'A')}) {
        CAPTURE(text.substr(0, 90));
        auto exchange = rfc7677(line);
        REQUIRE(exchange->step(client_first).is == Is::challenge);
        CHECK(exchange->step(text).is == Is::failure);
        CHECK(exchange->step(client_final).is == Is::failure);
    }
}

TEST_CASE("SCRAM: an extension nobody knows is passed over but signed") {
    Line line;
    auto exchange = rfc7677(line);
    const auto first = exchange->step("n,,n=user,r=abc,x=y");
    auto last = final_message(first.data, "n=user,r=abc,x=y", "n,,", "pencil");
    CHECK(exchange->step(last).is == Is::success);
    auto unsigned_one = rfc7677(line);
    REQUIRE(unsigned_one->step("n,,n=user,r=abc,x=z").is == Is::challenge);
    CHECK(unsigned_one->step(last).is == Is::failure);
}

TEST_CASE("SCRAM: an answer to another challenge fails, however well it is signed") {
    Line line;
    auto exchange = rfc7677(line), other = rfc7677(line);
    const auto first = exchange->step("n,,n=user,r=abc").data, second = other->step("n,,n=user,r=abd").data;
    CHECK(other->step(final_message(second, "n=user,r=abd", "n,,", "pencil")).is == Is::success);
    // Both sides of the signature but for the nonce, which the server has not given.
    const auto server = *Scram::read_server_first(first);
    const auto salted = pbkdf2_sha256("pencil", server.salt, server.iterations);
    const auto stale = "c=biws,r=" + server.nonce.substr(0, server.nonce.size() - 1) + "X";
    const auto proof =
        Scram::proof(client_key(salted), sha256(client_key(salted)), Scram::dialogue("n=user,r=abc", first, stale));
    CHECK(exchange->step(stale + ",p=" + base64_encode(proof)).is == Is::failure);
}

TEST_CASE("SCRAM: whom a user may be") {
    auto keys = scram_keys("pencil", 4096, "salt");
    Sasl sasl(accounts({.keys = [&](auto&) { return keys; },
                        .may_be = [](auto& user, auto& other) { return user == "user" && other == "a,b=c"; }}));
    Line line;
    const auto ask = [&](const std::string& header) {
        return scram(*sasl.begin("SCRAM-SHA-256", line.channel), header, "user", header, "pencil");
    };
    CHECK(ask("n,,").user == "user");
    CHECK(ask("n,a=user,").is == Is::success);
    CHECK(ask("n,a=a=2Cb=3Dc,").user == "a,b=c");
    CHECK(ask("n,a=root,").is == Is::failure);
    CHECK(ask("n,a=root,").user == "user");
}

TEST_CASE("SCRAM: who claims that we offer no channel binding is refused where we do (RFC 5802 6)") {
    Line bound, bare;
    bound.encrypt().bind();
    bare.encrypt();
    Sasl sasl(with_keys("user", "pencil"));
    Sasl without_plus({.accounts = with_keys("user", "pencil"), .without = {"SCRAM-SHA-256-PLUS"}});
    const auto ask = [](Sasl& s, const Line& line, const char* header) {
        return scram(*s.begin("SCRAM-SHA-256", line.channel), header, "user", header, "pencil").is;
    };
    CHECK(ask(sasl, bound, "y,,") == Is::failure);
    CHECK(ask(sasl, bound, "n,,") == Is::success);
    CHECK(ask(sasl, bare, "y,,") == Is::success);
    CHECK(ask(without_plus, bound, "y,,") == Is::success);

    // Also where it is the program's own that is offered.
    const auto none = [](const Channel&) { return std::unique_ptr<AuthExchange>(); };
    const auto own = [&](bool offered) {
        Sasl s({.accounts = with_keys("user", "pencil"),
                .own = {{"SCRAM-SHA-256-PLUS", none, [=](const Channel&) { return offered; }}}});
        return ask(s, bare, "y,,");
    };
    CHECK(own(true) == Is::failure);
    CHECK(own(false) == Is::success);
}

TEST_CASE("SCRAM-PLUS: the channel must be the same at both ends") {
    Line line;
    line.encrypt().bind("tls-exporter", "here").bind("tls-unique", "there").bind("tls-server-end-point", "where");
    Sasl sasl(with_keys("user", "pencil"));
    const auto ask = [&](const std::string& header, const std::string& bound) {
        return scram(*sasl.begin("SCRAM-SHA-256-PLUS", line.channel), header, "user", bound, "pencil").is;
    };
    CHECK(ask("p=tls-exporter,,", "p=tls-exporter,,here") == Is::success);
    CHECK(ask("p=tls-unique,,", "p=tls-unique,,there") == Is::success);
    CHECK(ask("p=tls-exporter,,", "p=tls-exporter,,there") == Is::failure);
    CHECK(ask("p=tls-exporter,,", "p=tls-exporter,,") == Is::failure);
    CHECK(ask("p=tls-exporter,,", "p=tls-unique,,here") == Is::failure);
    CHECK(ask("p=tls-exporter,,", "n,,") == Is::failure);
    CHECK(ask("p=tls-exporter,,", "") == Is::failure);
    CHECK(ask("p=tls-server-end-point,,", "p=tls-server-end-point,,where") == Is::failure);
    CHECK(ask("n,,", "n,,") == Is::failure);
    CHECK(ask("y,,", "y,,") == Is::failure);

    Line exporter;
    exporter.encrypt().bind();
    CHECK(sasl.begin("SCRAM-SHA-256-PLUS", exporter.channel)->step("p=tls-unique,,n=user,r=abc").is == Is::failure);
}

// ---- who does not exist ----

TEST_CASE("SCRAM: an unknown user and a wrong password can't be told apart") {
    Line line;
    for (auto kept : {with_keys("user", "pencil", 5000), with_clear_password("user", "pencil")}) {
        auto sasl = Sasl({.accounts = kept, .secret = "of this object"});
        const auto first = [&](const std::string& user) {
            auto step = sasl.begin("SCRAM-SHA-256", line.channel)->step("n,,n=" + user + ",r=abc");
            CHECK(step.is == Is::challenge);
            CHECK(step.user == "");
            return *Scram::read_server_first(step.data);
        };
        const auto real = first("user"), fake = first("nobody"), again = first("nobody"), other = first("nobody2");
        CHECK(fake.salt.size() == 16);
        CHECK(real.salt.size() == 16);
        CHECK(fake.salt == again.salt);
        CHECK(fake.salt != other.salt);
        CHECK(fake.iterations == again.iterations);
        CHECK(fake.nonce.size() == real.nonce.size());
        CHECK(fake.nonce != again.nonce);

        // The same secret gives the same salts, another one others.
        auto same = Sasl({.accounts = kept, .secret = "of this object"}), different = Sasl(kept);
        const auto salt = [&](Sasl& s) {
            return Scram::read_server_first(s.begin("SCRAM-SHA-256", line.channel)->step("n,,n=nobody,r=abc").data)
                ->salt;
        };
        CHECK(salt(same) == fake.salt);
        CHECK(salt(different) != fake.salt);

        const auto ask = [&](const char* user, const char* password) {
            auto step = scram(*sasl.begin("SCRAM-SHA-256", line.channel), "n,,", user, "n,,", password);
            CHECK(step.data == "");
            return step;
        };
        CHECK(scram(*sasl.begin("SCRAM-SHA-256", line.channel), "n,,", "user", "n,,", "pencil").is == Is::success);
        CHECK(ask("user", "wrong").is == Is::failure);
        CHECK(ask("nobody", "wrong").is == Is::failure);
        CHECK(ask("user", "wrong").reason == ask("nobody", "wrong").reason);
    }
}

TEST_CASE("a user who does not exist has the iterations and the salt of most") {
    Line line;
    Sasl sasl(accounts({.keys = [](auto&) { return std::nullopt; }, .iterations = 12'345, .salt = 9}));
    const auto step = sasl.begin("SCRAM-SHA-256", line.channel)->step("n,,n=nobody,r=abc");
    const auto first = Scram::read_server_first(step.data);
    CHECK(first->iterations == 12'345);
    CHECK(first->salt.size() == 9);
}

TEST_CASE("who does not exist has no password that anybody could guess") {
    const auto nobody = with_clear_password("user", "pencil");
    const Judge one(nobody, ""), another(nobody, "");
    CHECK(one.clear_password("user") == "pencil");
    CHECK(one.clear_password("a") == one.clear_password("a"));
    CHECK(one.clear_password("a") != one.clear_password("b"));
    CHECK(one.clear_password("a") != another.clear_password("a"));
    CHECK(one.clear_password("a").size() >= 32);
}

TEST_CASE("accounts that can't tell now are heard, and nobody's failure") {
    struct Gone : std::runtime_error {
        Gone() : std::runtime_error("the database is gone") {}
    };
    Sasl sasl(accounts({.password = [](auto&, auto&, auto&) -> bool { throw Gone(); },
                        .keys = [](auto&) -> std::optional<ScramKeys> { throw Gone(); },
                        .token = [](auto&, auto&, auto&) -> std::optional<std::string> { throw Gone(); }}));
    Line line;
    CHECK_THROWS_AS(only_step(sasl, "PLAIN", line, "\0u\0p"s), Gone);
    CHECK_THROWS_AS(only_step(sasl, "SCRAM-SHA-256", line, "n,,n=u,r=abc"), Gone);
    CHECK_THROWS_AS(only_step(sasl, "XOAUTH2", line,
                              "user=u\x01"
                              "auth=Bearer t\x01\x01"),
                    Gone);
    auto exchange = sasl.begin("PLAIN", line.channel);
    CHECK_THROWS_AS(exchange->step("\0u\0p"s), Gone);
    CHECK(exchange->step("\0u\0p"s).is == Is::failure);  // it is over

    Sasl broken(accounts({.keys = [](auto&) { return ScramKeys{4096, "salt", "short", "short"}; }}));
    CHECK_THROWS_AS(only_step(broken, "SCRAM-SHA-256", line, "n,,n=u,r=abc"), std::runtime_error);
}

// ---- CRAM-MD5 (RFC 2195) ----

TEST_CASE("the example of RFC 2195 section 2") {
    Line line;
    auto judge = std::make_shared<const Judge>(with_clear_password("tim", "tanstaaftanstaaf"), "");
    const auto begin = [&] {
        auto exchange = cram_md5_exchange(judge, line.channel, "<1896.697170952@postoffice.reston.mci.net>");
        CHECK_FALSE(exchange->client_first());
        CHECK(exchange->step(std::nullopt).data == "<1896.697170952@postoffice.reston.mci.net>");
        return exchange;
    };
    const auto right = begin()->step("tim b913a602c7eda7a495b4e6e7334d3890");
    CHECK(right.is == Is::success);
    CHECK(right.user == "tim");
    CHECK(begin()->step("tim B913A602C7EDA7A495B4E6E7334D3890").is == Is::success);
    for (const auto& text :
         {""s, " "s, "tim"s, "tim "s, "tim b913a602c7eda7a495b4e6e7334d3891"s, "tim b913a602c7eda7a495b4e6e7334d389"s,
          "tim b913a602c7eda7a495b4e6e7334d38900"s, "tom b913a602c7eda7a495b4e6e7334d3890"s,
          " b913a602c7eda7a495b4e6e7334d3890"s, "t\0m b913a602c7eda7a495b4e6e7334d3890"s,
          "tim b913a602c7eda7a495b4e6e7334d3890 "s, std::string(12'289, 'a')}) {
        CAPTURE(text.substr(0, 50));
        CHECK(begin()->step(text).is == Is::failure);
    }
}

TEST_CASE("CRAM-MD5: challenges name the host and never come twice; there is no initial response") {
    Sasl sasl(with_clear_password("tim", "secret"));
    Line line;
    std::set<std::string> seen;
    for (int i = 0; i < 100; ++i) seen.insert(sasl.begin("CRAM-MD5", line.channel)->step(std::nullopt).data);
    CHECK(seen.size() == 100);
    CHECK(seen.begin()->starts_with("<"));
    CHECK(seen.begin()->ends_with("@mail.example.org>"));
    CHECK(only_step(sasl, "CRAM-MD5", line, "tim 0123456789abcdef0123456789abcdef").is == Is::failure);

    auto unknown = sasl.begin("CRAM-MD5", line.channel);
    CHECK(unknown->step(std::nullopt).is == Is::challenge);
    const auto no = unknown->step("nobody 0123456789abcdef0123456789abcdef");
    auto wrong = sasl.begin("CRAM-MD5", line.channel);
    CHECK(wrong->step(std::nullopt).is == Is::challenge);
    CHECK(wrong->step("tim 0123456789abcdef0123456789abcdef").reason == no.reason);
    CHECK(no.user == "nobody");
}

// ---- tokens (RFC 7628) ----

TEST_CASE("the examples of RFC 7628 section 4") {
    const std::string message =
        "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
        "auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
    Line line;
    Sasl sasl(with_token("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="));
    const auto right = only_step(sasl, "OAUTHBEARER", line, message);
    CHECK(right.is == Is::success);
    CHECK(right.user == "user@example.com");

    // 4.3: a failed exchange, and what it is answered with.
    Sasl other(with_token("user@example.com", "another"));
    auto exchange = other.begin("OAUTHBEARER", line.channel);
    const auto error = exchange->step(message);
    CHECK(error.is == Is::challenge);
    CHECK(error.data == R"({"status":"invalid_token"})");
    const auto end = exchange->step("\x01");
    CHECK(end.is == Is::failure);
    CHECK(end.user == "user@example.com");
    CHECK(exchange->step(message).is == Is::failure);
}

TEST_CASE("OAUTHBEARER: the header's forms, and what is none") {
    Line line;
    Sasl sasl(accounts({.token = [](auto& user, auto& token, auto&) {
        return token == "t" ? std::optional(user.empty() ? "whose it is" : user) : std::nullopt;
    }}));
    const auto ask = [&](const std::string& text) { return only_step(sasl, "OAUTHBEARER", line, text); };
    CHECK(ask("n,,\x01"
              "auth=Bearer t\x01\x01")
              .user == "whose it is");
    CHECK(ask("y,a=a=2Cb,\x01"
              "auth=bearer  t\x01\x01")
              .user == "a,b");
    CHECK(ask("n,a=u,\x01x=y=z\x01"
              "auth=BEARER t\x01\x01")
              .is == Is::success);
    for (const auto& text : {""s,
                             "\x01\x01"s,
                             "n,,"s,
                             "n,,\x01\x01"s,
                             "n,,\x01"
                             "auth=Bearer t\x01"s,
                             "n,,\x01"
                             "auth=Bearer t"s,
                             "n,,auth=Bearer t\x01\x01"s,
                             "n,,\x01"
                             "auth=\x01\x01"s,
                             "n,,\x01"
                             "auth=Bearer\x01\x01"s,
                             "n,,\x01"
                             "auth=Bearer \x01\x01"s,
                             "n,,\x01"
                             "auth=Basic t\x01\x01"s,
                             "n,,\x01"
                             "auth=Bearer t t\x01\x01"s,
                             "n,,\x01"
                             "auth=Bearer t\x01"
                             "auth=Bearer t\x01\x01"s,
                             "n,,\x01"
                             "auth=Bearer t\x01\x01x"s,
                             "n,,\x01"
                             "auth=Bearer t\0t\x01\x01"s,
                             "n,,\x01nothing\x01"
                             "auth=Bearer t\x01\x01"s,
                             "p=tls-exporter,,\x01"
                             "auth=Bearer t\x01\x01"s,
                             "n,a=\x07,\x01"
                             "auth=Bearer t\x01\x01"s,
                             "n,a=user,"s,
                             "n,a=a=b,\x01"
                             "auth=Bearer t\x01\x01"s,
                             "n,,\x01"
                             "auth=Bearer "s +
                                 std::string(12'288, 't') + "\x01\x01"}) {
        CAPTURE(text.substr(0, 40));
        CHECK(ask(text).is == Is::failure);
    }
}

TEST_CASE("XOAUTH2: a token, or an error that is answered before the verdict") {
    Line line;
    Sasl sasl(with_token("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"));
    const std::string message =
        "user=someuser@example.com\x01"
        "auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01";
    CHECK(only_step(sasl, "XOAUTH2", line, message).user == "someuser@example.com");

    auto exchange = sasl.begin("XOAUTH2", line.channel);
    const auto error = exchange->step(
        "user=someuser@example.com\x01"
        "auth=Bearer wrong\x01\x01");
    CHECK(error.is == Is::challenge);
    CHECK(error.data.starts_with(R"({"status":"401")"));
    const auto end = exchange->step("");
    CHECK(end.is == Is::failure);
    CHECK(end.user == "someuser@example.com");
    CHECK(end.reason.find("wrong") == std::string::npos);

    for (const auto& text : {""s,
                             "user=\x01"
                             "auth=Bearer t\x01\x01"s,
                             "auth=Bearer t\x01\x01"s, "user=u\x01\x01"s,
                             "user=u\x01"
                             "auth=Bearer t\x01"s,
                             "user=u\0\x01"
                             "auth=Bearer t\x01\x01"s,
                             "user=u\x01user=v\x01"
                             "auth=Bearer t\x01\x01"s}) {
        CAPTURE(text);
        CHECK(only_step(sasl, "XOAUTH2", line, text).is == Is::failure);
    }
}

// ---- EXTERNAL (RFC 4422 A) ----

TEST_CASE("EXTERNAL: the certificate says who it is, or whom it may be") {
    std::string seen;
    Sasl sasl(accounts({.certificate = [&](auto& c, auto& user, auto&) -> std::optional<std::string> {
        seen = c.names.at(0);
        if (user.empty()) return "peer";
        return user == "peer" || user == "other" ? std::optional(user) : std::nullopt;
    }}));
    Line line;
    line.encrypt();
    CHECK(only_step(sasl, "EXTERNAL", line, "").user == "peer");
    CHECK(seen == "DNS:peer.example.org");
    CHECK(only_step(sasl, "EXTERNAL", line, "other").user == "other");
    const auto no = only_step(sasl, "EXTERNAL", line, "root");
    CHECK(no.is == Is::failure);
    CHECK(no.user == "root");
    CHECK(only_step(sasl, "EXTERNAL", line, "ot\0her"s).is == Is::failure);
    auto exchange = sasl.begin("EXTERNAL", line.channel);
    CHECK(exchange->step(std::nullopt).is == Is::challenge);
    CHECK(exchange->step("").is == Is::success);
}

// ---- whatever comes ----

TEST_CASE("no octets whatever prove anything, throw or go on for ever") {
    std::mt19937 chance(4616);
    Line line;
    line.encrypt().bind();
    auto nobody = accounts({.keys = [](auto&) { return std::nullopt; },
                            .token = [](auto&, auto&, auto&) { return std::nullopt; },
                            .certificate = [](auto&, auto&, auto&) { return std::nullopt; }});
    auto clear = accounts({.clear_password = [](auto&) { return std::nullopt; }, .iterations = 1});
    const std::string seeds[] = {client_first,
                                 "p=tls-exporter" + client_first.substr(1),
                                 client_final,
                                 "\0tim\0tanstaaftanstaaf"s,
                                 "tim b913a602c7eda7a495b4e6e7334d3890",
                                 "n,a=u,\x01host=h\x01"
                                 "auth=Bearer t\x01\x01",
                                 "user=u\x01"
                                 "auth=Bearer t\x01\x01",
                                 ""};
    const auto any = [&](std::size_t below) {
        return std::uniform_int_distribution<std::size_t>(0, below - 1)(chance);
    };
    const auto octets = [&] {
        auto text = seeds[any(std::size(seeds))];
        for (auto n = any(6); n > 0; --n) {
            const auto at = any(text.size() + 1);
            switch (any(4)) {
                case 0: text.insert(at, 1, static_cast<char>(any(256))); break;
                case 1: text.erase(at, any(4)); break;
                case 2: text.insert(at, seeds[any(std::size(seeds))].substr(0, any(20))); break;
                default:
                    if (at < text.size()) text[at] = ",=\0\x01np"[any(6)];
            }
        }
        return text;
    };
    for (auto& who : {nobody, clear}) {
        Sasl sasl({.accounts = who, .secret = "fixed"});
        for (const auto& mechanism : sasl.mechanisms(line.channel)) {
            CAPTURE(mechanism);
            int challenges = 0;
            for (int round = 0; round < 2000; ++round) {
                auto exchange = sasl.begin(mechanism, line.channel);
                for (int n = 0; n < 5; ++n) {
                    const auto text = octets();
                    const auto step = exchange->step(any(8) ? std::optional<std::string_view>(text) : std::nullopt);
                    CHECK_MESSAGE(step.is != Is::success, text);
                    if (step.is != Is::challenge) break;
                    ++challenges;
                    REQUIRE(n < 4);
                }
            }
            CHECK(challenges > 0);
        }
    }
}

TEST_CASE("eight threads at once are each told the truth") {
    Sasl sasl(with_clear_password("user", "pencil"));
    Line line;
    line.encrypt().bind();
    std::vector<std::thread> threads;
    std::atomic<int> right = 0, wrong = 0;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&, t] {
            for (const char* mechanism : {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"})
                for (const char* password : {"pencil", "wrong", "gr\xc3\xbc\xc3\x9f"}) {
                    SaslLogin login({.user = t % 2 ? "user"
                                                   : "us\xc2\xad"
                                                     "er",
                                     .password = password,
                                     .mechanisms = {mechanism},
                                     .clear_text = {"PLAIN", "LOGIN"}});
                    ++(ok(play(sasl, line, login, line)) ? right : wrong);
                }
        });
    for (auto& t : threads) t.join();
    CHECK(right == 8 * 5);
    CHECK(wrong == 8 * 5 * 2);
}
