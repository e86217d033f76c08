// sasl_login -- tests of SaslLogin: which mechanism it chooses, what it believes, and both sides played against each
// other.
#include <doctest/doctest.h>

#include <random>
#include <stdexcept>

#include "../Relay/SaslLoginExchanges.hpp"
#include "../Server/Base64.hpp"
#include "../Server/SaslCrypto.hpp"
#include "../Server/SaslMechanisms.hpp"
#include "../Server/SaslScram.hpp"
#include "sasl.hpp"

using namespace test;
using namespace std::string_literals;
using Names = std::vector<std::string>;

namespace {

const Names everything = {"GSSAPI",   "LOGIN",         "PLAIN",       "XOAUTH2", "OAUTHBEARER",
                          "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-1", "NTLM",    "SCRAM-SHA-256-PLUS",
                          "EXTERNAL"};

SaslLogin user_with(SaslLogin::Options o) {
    o.user = "user";
    return SaslLogin(std::move(o));
}

struct Choice {
    std::string mechanism, why;
};
Choice choose(const SaslLogin& login, const Names& offered, const Line& line) {
    Choice choice;
    auto exchange = login.begin(offered, line.channel, choice.why);
    if (exchange) choice.mechanism = exchange->mechanism();
    return choice;
}

}  // namespace

// ---- the choice ----

TEST_CASE("the strongest mechanism that both have is chosen") {
    Line line;
    line.encrypt().bind();
    const auto login = user_with({.password = "pencil", .token = [] { return "t"; }});
    auto offered = everything;
    for (const char* next :
         {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN", ""}) {
        CHECK(choose(login, offered, line).mechanism == next);
        std::erase(offered, next);
    }
    CHECK(choose(login, offered, line).why ==
          "The server offers only GSSAPI, SCRAM-SHA-1, NTLM and EXTERNAL, nothing that this login may use");
    CHECK(choose(login, {}, line).why == "The server offers no mechanism, nothing that this login may use");
}

TEST_CASE("a secret is shown only to a verified server, or by a mechanism that is named") {
    Line clear, unverified, anonymous, verified;
    unverified.encrypt(false).bind();
    anonymous.encrypt().bind().tls.peer.reset();
    verified.encrypt();
    const Names offered = {"PLAIN", "LOGIN"};
    const auto login = user_with({.password = "pencil"});
    for (auto* line : {&clear, &unverified, &anonymous}) {
        const auto none = choose(login, offered, *line);
        CHECK(none.mechanism == "");
        CHECK(none.why == "The server offers only PLAIN and LOGIN, and the connection is not verified TLS");
    }
    CHECK(choose(login, offered, verified).mechanism == "PLAIN");
    CHECK(choose(user_with({.password = "p", .clear_text = {"LOGIN"}}), offered, clear).mechanism == "LOGIN");
    CHECK(choose(user_with({.token = [] { return "t"; }}), {"XOAUTH2", "OAUTHBEARER"}, unverified).mechanism == "");
    CHECK(choose(login, {"PLAIN", "CRAM-MD5"}, clear).mechanism == "CRAM-MD5");
}

TEST_CASE("only mechanisms that have what they need, and that are allowed") {
    Line line;
    line.encrypt();
    CHECK(choose(user_with({.password = "p"}), everything, line).mechanism == "SCRAM-SHA-256");
    CHECK(choose(user_with({.token = [] { return "t"; }}), everything, line).mechanism == "OAUTHBEARER");
    CHECK(choose(user_with({.token = [] { return "t"; }}), {"PLAIN"}, line).mechanism == "");
    CHECK(choose(user_with({.password = "p", .mechanisms = {"LOGIN", "CRAM-MD5"}}), everything, line).mechanism ==
          "CRAM-MD5");
    CHECK(choose(user_with({.password = "p", .mechanisms = {"EXTERNAL", "PLAIN"}}), everything, line).mechanism ==
          "EXTERNAL");
    CHECK(choose(user_with({.password = "p", .mechanisms = {"SCRAM-SHA-256-PLUS"}}), everything, line).mechanism == "");
}

TEST_CASE("what a server offers is repeated only where it can be a mechanism, and not at length") {
    Line line;
    const auto login = user_with({.password = "p"});
    CHECK(choose(login, {"A\r\nB", "", "small", std::string(21, 'X'), "FINE"}, line).why ==
          "The server offers only FINE, nothing that this login may use");
    CHECK(choose(login, Names(1000, "X"), line).why.size() < 200);
}

TEST_CASE("options that can't log in are refused") {
    const auto bad = [](SaslLogin::Options o) { CHECK_THROWS_AS(SaslLogin(std::move(o)), std::invalid_argument); };
    bad({.user = "", .password = "p"});
    bad({.user = "u"});
    bad({.user = "u", .password = "p", .mechanisms = {"PLAIN", "NTLM"}});
    bad({.user = "u", .password = "p", .clear_text = {"plain"}});
    bad({.user = "u\n", .password = "p"});
    bad({.user = "u", .password = "p\0"s});
    bad({.user = "u", .password = "\xff"});
    bad({.user = "u", .password = "p", .acts_as = "\x7f"});
    bad({.user = "", .mechanisms = {"EXTERNAL", "PLAIN"}});
    CHECK_NOTHROW(SaslLogin({.user = "", .mechanisms = {"EXTERNAL"}}));
    CHECK(SaslLogin("u", "p").user() == "u");
    try {
        SaslLogin("u", "hidden\n");
        FAIL("a password with a line end");
    } catch (const std::invalid_argument& e) {
        CHECK(std::string(e.what()).find("hidden") == std::string::npos);
    }
}

// ---- the server's and the client's side ----

TEST_CASE("each mechanism succeeds with what proves it, and fails without") {
    struct Row {
        const char* mechanism;
        std::shared_ptr<Accounts> accounts;
        bool token;
    };
    auto certificate = accounts({.certificate = [](auto&, auto& u, auto&) {
        return u.empty() || u == "user" ? std::optional("user"s) : std::nullopt;
    }});
    const Row rows[] = {
        {"SCRAM-SHA-256-PLUS", with_keys("user", "pencil"), false},
        {"SCRAM-SHA-256-PLUS", with_clear_password("user", "pencil"), false},
        {"SCRAM-SHA-256", with_keys("user", "pencil"), false},
        {"SCRAM-SHA-256", with_clear_password("user", "pencil"), false},
        {"CRAM-MD5", with_clear_password("user", "pencil"), false},
        {"OAUTHBEARER", with_token("user", "pencil"), true},
        {"XOAUTH2", with_token("user", "pencil"), true},
        {"PLAIN", with_password("user", "pencil"), false},
        {"PLAIN", with_keys("user", "pencil"), false},
        {"LOGIN", with_password("user", "pencil"), false},
        {"LOGIN", with_clear_password("user", "pencil"), false},
    };
    Line server, client;
    for (auto* line : {&server, &client}) line->encrypt().bind();
    for (const auto& r : rows) {
        CAPTURE(r.mechanism);
        const auto as = [&](std::string user, std::string secret) {
            SaslLogin::Options o{.user = std::move(user), .mechanisms = {r.mechanism}};
            if (r.token) o.token = [secret] { return secret; };
            else o.password = secret;
            Sasl sasl(r.accounts);
            return play(sasl, server, SaslLogin(std::move(o)), client);
        };
        const auto right = as("user", "pencil");
        CHECK(right.mechanism == r.mechanism);
        CHECK(ok(right));
        CHECK(right.user == "user");
        const auto wrong = as("user", "Pencil"), unknown = as("nobody", "pencil");
        for (const auto& o : {wrong, unknown}) {
            CHECK_FALSE(o.success);
            CHECK(o.mechanism == r.mechanism);
            CHECK(o.reason.find("encil") == std::string::npos);
        }
        CHECK(wrong.challenges == unknown.challenges);
        CHECK(wrong.reason == unknown.reason);
        CHECK(unknown.user == "nobody");
    }

    Sasl external(certificate);
    const auto as = [&](std::string user) {
        return play(external, server, SaslLogin({.user = std::move(user), .mechanisms = {"EXTERNAL"}}), client);
    };
    CHECK(ok(as("user")));
    CHECK(ok(as("")));
    CHECK_FALSE(as("root").success);
}

TEST_CASE("a user acts as another where the server lets it") {
    auto keys = scram_keys("pencil", 4096, "salt");
    Sasl sasl(accounts({.keys = [=](auto&) { return keys; },
                        .token = [](auto& u, auto&, auto&) { return u; },
                        .certificate = [](auto&, auto& u, auto&) { return u; },
                        .may_be = [](auto& u, auto& other) { return u == "user" && other == "the,other=one"; }}));
    Line line;
    line.encrypt().bind();
    for (const char* mechanism : {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "EXTERNAL"}) {
        CAPTURE(mechanism);
        const auto as = [&](std::string other) {
            return play(sasl, line,
                        user_with({.password = "pencil",
                                   .token = [] { return "t"; },
                                   .acts_as = std::move(other),
                                   .mechanisms = {mechanism}}),
                        line);
        };
        CHECK(ok(as("the,other=one")));
        CHECK(as("the,other=one").user == "the,other=one");
    }
    CHECK_FALSE(play(sasl, line, user_with({.password = "pencil", .acts_as = "root"}), line).success);
}

TEST_CASE("a user and a password beyond ASCII arrive by every mechanism") {
    const std::string user = "m\xc3\xbcller,=\xe2\x82\xac", password = "gr\xc3\xbc\xc3\x9f dich=,";
    Sasl sasl(with_clear_password(user, password));
    Line line;
    line.encrypt().bind();
    for (const char* mechanism : {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"}) {
        CAPTURE(mechanism);
        // The same, otherwise written.
        const SaslLogin login({.user = "mu\xcc\x88ller,=\xe2\x82\xac",
                               .password = "gru\xcc\x88\xc3\x9f\xc2\xa0"
                                           "dich=,",
                               .mechanisms = {mechanism}});
        const auto o = play(sasl, line, login, line);
        CHECK(ok(o));
        CHECK(o.user == user);
    }
}

TEST_CASE("somebody in the middle of TLS is found out by channel binding") {
    Sasl sasl(with_keys("user", "pencil"));
    Line server, client;
    server.encrypt().bind("tls-exporter", "between the middle and the server");
    client.encrypt().bind("tls-exporter", "between the client and the middle");
    const auto login = user_with({.password = "pencil"});
    const auto o = play(sasl, server, login, client);
    CHECK(o.mechanism == "SCRAM-SHA-256-PLUS");
    CHECK_FALSE(o.success);
    CHECK_FALSE(o.complete);

    // It hides -PLUS, and the client says that it would have.
    std::string why;
    auto exchange = login.begin({"SCRAM-SHA-256"}, client.channel, why);
    const auto hidden = play(*sasl.begin("SCRAM-SHA-256", server.channel), *exchange);
    CHECK_FALSE(hidden.success);
    CHECK(hidden.reason == "was kept from seeing -PLUS");
}

TEST_CASE("the client says by its flag what it knows of channel binding") {
    Line bound, bare, unique;
    bound.encrypt().bind("tls-unique").bind("tls-exporter");
    unique.encrypt().bind("tls-unique");
    bare.encrypt();
    const auto header = [&](SaslLogin::Options o, Names offered, const Line& line) {
        o.password = "pencil";
        std::string why;
        auto first = user_with(std::move(o)).begin(offered, line.channel, why)->step(std::nullopt).value();
        return first.substr(0, first.find(",n=") + 1);
    };
    const Names both = {"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"}, one = {"SCRAM-SHA-256"};
    CHECK(header({}, both, bound) == "p=tls-exporter,,");
    CHECK(header({}, both, unique) == "p=tls-unique,,");
    CHECK(header({}, both, bare) == "n,,");
    CHECK(header({}, one, bound) == "y,,");
    CHECK(header({}, one, bare) == "n,,");
    CHECK(header({.mechanisms = one}, both, bound) == "n,,");
    CHECK(header({.mechanisms = one}, one, bound) == "n,,");
    CHECK(header({.acts_as = "a,b"}, one, bare) == "n,a=a=2Cb,");
}

// ---- the examples of the RFCs ----

TEST_CASE("the client's side of the example of RFC 7677 section 3") {
    const SaslLogin::Options options{.user = "user", .password = "pencil"};
    Line line;
    LoginTerms terms{.options = options, .channel = line.channel};
    terms.nonce = "rOprNGfwEbeRWgbNEkqO";
    std::string why;
    const auto begin = [&] {
        auto exchange = begin_login("SCRAM-SHA-256", terms, why);
        CHECK(exchange->step(std::nullopt) == "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        CHECK(
            exchange->step("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096") ==
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
        CHECK_FALSE(exchange->complete());
        return exchange;
    };
    const std::string right = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    auto exchange = begin();
    CHECK(exchange->step(right) == "");
    CHECK(exchange->complete());
    CHECK(begin()->step(right + ",x=y") == "");

    // A server that does not know the password proves nothing.
    for (const auto& false_one :
         {"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="s, "v="s, ""s, "v"s, "v=6rri"s, "e=other-error"s,
          right + "="s, "x=y,"s + right, right.substr(2), std::string(12'289, 'v')}) {
        CAPTURE(false_one.substr(0, 60));
        auto cheated = begin();
        CHECK(cheated->step(false_one) == std::nullopt);
        CHECK_FALSE(cheated->complete());
        CHECK(cheated->step(right) == std::nullopt);
        CHECK_FALSE(cheated->complete());
    }
}

TEST_CASE("SCRAM: a first challenge that is not to be believed is given up") {
    const auto login = user_with({.password = "pencil"});
    Line line;
    const auto answer = [&](const std::function<std::string(const std::string& nonce)>& challenge) {
        std::string why;
        auto exchange = login.begin({"SCRAM-SHA-256"}, line.channel, why);
        const auto first = exchange->step(std::nullopt).value();
        const auto response = exchange->step(challenge(first.substr(first.find("r=") + 2)));
        CHECK_FALSE(exchange->complete());
        return bool(response);
    };
    const auto with = [&](const std::string& rest) { return answer([&](auto& nonce) { return "r=" + nonce + rest; }); };
    CHECK(with("x,s=c2FsdA==,i=4096"));
    CHECK(with("x,s=c2FsdA==,i=5000,x=y"));
    for (const char* rest :
         {",s=c2FsdA==,i=4096", "x,s=c2FsdA==,i=4095", "x,s=c2FsdA==,i=1000001", "x,s=c2FsdA==,i=4294967297",
          "x,s=c2FsdA==,i=99999999999999999999", "x,s=c2FsdA==,i=-4096", "x,s=c2FsdA==,i=4096x", "x,s=c2FsdA==,i=",
          "x,s=c2FsdA==,i=04096", "x,s=c2FsdA==", "x,s=,i=4096", "x,s=c2FsdA,i=4096", "x,s=c2Fs dA==,i=4096",
          "x,i=4096,s=c2FsdA==", "x,s=c2FsdA==,i=4096,m=x", "x,s=c2FsdA==,i=4096,", "x\x01,s=c2FsdA==,i=4096"}) {
        CAPTURE(rest);
        CHECK_FALSE(with(rest));
    }
    CHECK_FALSE(answer([](auto&) { return "r=another,s=c2FsdA==,i=4096"s; }));
    CHECK_FALSE(answer([](auto& nonce) { return "m=x,r=" + nonce + "x,s=c2FsdA==,i=4096"; }));
    CHECK_FALSE(answer([](auto& nonce) { return "r=" + nonce.substr(1) + "x,s=c2FsdA==,i=4096"; }));
    CHECK_FALSE(answer([](auto& nonce) { return "r=" + nonce + "x,s=c2FsdA==,i=4096\0"s; }));
    CHECK_FALSE(answer([](auto& nonce) { return "r=" + nonce + std::string(12'288, 'x') + ",s=c2FsdA==,i=4096"; }));
    CHECK_FALSE(answer([](auto&) { return ""s; }));
}

TEST_CASE("the client's side of RFC 2195's example, and of RFC 4616's") {
    Line line;
    line.encrypt();
    std::string why;
    const SaslLogin tim("tim", "tanstaaftanstaaf");
    auto cram = tim.begin({"CRAM-MD5"}, line.channel, why);
    CHECK(cram->step(std::nullopt) == std::nullopt);
    CHECK_FALSE(cram->complete());
    CHECK(cram->step("<1896.697170952@postoffice.reston.mci.net>") == "tim b913a602c7eda7a495b4e6e7334d3890");
    CHECK(cram->complete());
    CHECK(cram->step("<again>") == std::nullopt);
    CHECK(tim.begin({"CRAM-MD5"}, line.channel, why)->step(std::string(12'288, 'x')));
    CHECK_FALSE(tim.begin({"CRAM-MD5"}, line.channel, why)->step(std::string(12'289, 'x')));

    auto plain = tim.begin({"PLAIN"}, line.channel, why);
    CHECK(plain->step(std::nullopt) == "\0tim\0tanstaaftanstaaf"s);
    CHECK(plain->complete());
    CHECK(plain->step("more?") == std::nullopt);
    CHECK_FALSE(plain->complete());

    const SaslLogin kurt({.user = "Kurt", .password = "xipj3plmq", .acts_as = "Ursel"});
    CHECK(kurt.begin({"PLAIN"}, line.channel, why)->step(std::nullopt) == "Ursel\0Kurt\0xipj3plmq"s);
}

TEST_CASE("LOGIN answers two prompts, whatever they are called, and no third") {
    Line line;
    line.encrypt();
    std::string why;
    auto login = user_with({.password = "pencil"}).begin({"LOGIN"}, line.channel, why);
    CHECK(login->step(std::nullopt) == std::nullopt);
    CHECK(login->step("User Name") == "user");
    CHECK_FALSE(login->complete());
    CHECK(login->step("") == "pencil");
    CHECK(login->complete());
    CHECK(login->step("Password:") == std::nullopt);
    CHECK_FALSE(login->complete());
}

TEST_CASE("the client's side of RFC 7628's examples, and of XOAUTH2's") {
    Line line;
    line.encrypt();
    line.channel.hostname = "server.example.com";
    line.channel.peer = {"192.0.2.1", 143};
    std::string why;
    const std::string token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";
    const SaslLogin login({.user = "user@example.com", .token = [&] { return token; }});
    auto bearer = login.begin({"OAUTHBEARER"}, line.channel, why);
    CHECK(bearer->step(std::nullopt) ==
          "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
          "auth=Bearer " +
              token + "\x01\x01");
    CHECK(bearer->complete());
    CHECK(bearer->step(R"({"status":"invalid_token"})") == "\x01");
    CHECK_FALSE(bearer->complete());

    auto google = login.begin({"XOAUTH2"}, line.channel, why);
    CHECK(google->step(std::nullopt) ==
          "user=user@example.com\x01"
          "auth=Bearer " +
              token + "\x01\x01");
    CHECK(google->complete());
    CHECK(google->step(R"({"status":"401"})") == "");
    CHECK_FALSE(google->complete());
}

TEST_CASE("a token is asked for each time, and its absence is an answer") {
    Line line;
    line.encrypt();
    int asked = 0;
    const auto login = user_with({.token = [&]() -> std::string {
        switch (++asked) {
            case 1: return "first";
            case 2: return "";
            case 3: return "in\x01jected";
            default: throw std::runtime_error("hidden");
        }
    }});
    std::string why;
    CHECK(login.begin({"XOAUTH2"}, line.channel, why));
    for (int i = 0; i < 3; ++i) {
        why.clear();
        CHECK_FALSE(login.begin({"XOAUTH2"}, line.channel, why));
        CHECK(why == "There is no token for XOAUTH2 now");
    }
    CHECK(asked == 4);
}

TEST_CASE("no server whatever makes the client throw, believe or go on for ever") {
    std::mt19937 chance(7677);
    const auto any = [&](std::size_t below) {
        return std::uniform_int_distribution<std::size_t>(0, below - 1)(chance);
    };
    Line line;
    line.encrypt().bind();
    const auto login = [&](const char* mechanism) {
        return user_with({.password = "pencil", .token = [] { return "t"; }, .mechanisms = {mechanism}});
    };
    for (const char* mechanism :
         {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "PLAIN", "LOGIN", "EXTERNAL"}) {
        CAPTURE(mechanism);
        const bool proves_itself = std::string_view(mechanism).starts_with("SCRAM");
        const auto who = login(mechanism);
        int answers = 0;
        for (int round = 0; round < 1500; ++round) {
            std::string why;
            auto exchange = who.begin({mechanism}, line.channel, why);
            REQUIRE(exchange);
            const auto first = exchange->step(std::nullopt).value_or("");
            const auto nonce = first.substr(first.find("r=") == first.npos ? 0 : first.find("r=") + 2);
            for (int n = 0; n < 5; ++n) {
                const std::string seeds[] = {"",
                                             "r=" + nonce + "x,s=c2FsdA==,i=4096",
                                             "<1.2@host>",
                                             "Password:",
                                             "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
                                             "{}"};
                auto text = seeds[any(std::size(seeds))];
                for (auto m = any(4); m > 0; --m) {
                    const auto at = any(text.size() + 1);
                    if (any(2)) text.insert(at, 1, static_cast<char>(any(256)));
                    else text.erase(at, 1 + any(3));
                }
                const auto response = exchange->step(text);
                if (proves_itself) CHECK_FALSE(exchange->complete());
                if (!response) {
                    CHECK_FALSE(exchange->complete());
                    break;
                }
                ++answers;
                REQUIRE(n < 4);
            }
        }
        if (std::string_view(mechanism) != "PLAIN" && std::string_view(mechanism) != "EXTERNAL") CHECK(answers > 0);
    }
}
