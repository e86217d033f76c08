// sasl_gsasl -- our sides of each mechanism against those of libgsasl, which others use too.
#include <doctest/doctest.h>
#include <gsasl.h>

#include <functional>
#include <map>

#include "../Relay/SaslLoginExchanges.hpp"
#include "../Server/Base64.hpp"
#include "../Server/SaslCrypto.hpp"
#include "sasl.hpp"

using namespace test;

namespace {

// A session of libgsasl, either side.
class Peer {
public:
    using Properties = std::map<Gsasl_property, std::string>;
    enum class Side { client, server };

    Peer(Side side, const std::string& mechanism, Properties properties) : properties_(std::move(properties)) {
        REQUIRE(gsasl_init(&library_) == GSASL_OK);
        gsasl_callback_set(library_, answer);
        gsasl_callback_hook_set(library_, this);
        const auto start = side == Side::client ? gsasl_client_start : gsasl_server_start;
        REQUIRE(start(library_, mechanism.c_str(), &session_) == GSASL_OK);
    }
    ~Peer() {
        gsasl_finish(session_);
        gsasl_done(library_);
    }
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;

    // What it says; nullopt when it fails.
    std::optional<std::string> step(std::string_view input) {
        char* output = nullptr;
        std::size_t size = 0;
        result = gsasl_step(session_, input.data(), input.size(), &output, &size);
        if (result != GSASL_OK && result != GSASL_NEEDS_MORE) return std::nullopt;
        std::string said(output ? output : "", output ? size : 0);
        gsasl_free(output);
        return said;
    }
    bool done() const { return result == GSASL_OK; }
    int result = GSASL_NEEDS_MORE;

private:
    static int answer(Gsasl* library, Gsasl_session* session, Gsasl_property property) {
        auto& self = *static_cast<Peer*>(gsasl_callback_hook_get(library));
        if (property == GSASL_VALIDATE_SIMPLE) {
            const std::string given = gsasl_property_fast(session, GSASL_PASSWORD);
            return given == self.properties_[GSASL_PASSWORD] ? GSASL_OK : GSASL_AUTHENTICATION_ERROR;
        }
        if (property == GSASL_VALIDATE_EXTERNAL) return GSASL_OK;
        const auto found = self.properties_.find(property);
        if (found == self.properties_.end()) return GSASL_NO_CALLBACK;
        return gsasl_property_set(session, property, found->second.c_str());
    }

    Properties properties_;
    Gsasl* library_ = nullptr;
    Gsasl_session* session_ = nullptr;
};

const std::string binding = "thirty-two octets of this channel";
const char* const mechanisms[] = {"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN", "EXTERNAL"};

bool binds(std::string_view mechanism) { return mechanism.ends_with("-PLUS"); }

std::shared_ptr<Accounts> user_accounts() {
    return accounts(
        {.clear_password = [](auto& u) { return u == "us,er" ? std::optional<std::string>("pencil") : std::nullopt; },
         .certificate = [](auto&, auto& u, auto&) { return u; }});
}

// Whether libgsasl's client and our server agree.
bool their_client(const std::string& mechanism, const std::string& password) {
    Line line;
    line.encrypt().bind("tls-exporter", binding);
    Sasl sasl(user_accounts());
    auto server = sasl.begin(mechanism, line.channel);
    REQUIRE(server);
    Peer::Properties properties{{GSASL_AUTHID, "us,er"}, {GSASL_PASSWORD, password}};
    if (binds(mechanism)) properties[GSASL_CB_TLS_EXPORTER] = base64_encode(binding);
    if (mechanism == "EXTERNAL") properties[GSASL_AUTHZID] = "us,er";
    Peer client(Peer::Side::client, mechanism, std::move(properties));
    std::optional<std::string> response;
    if (server->client_first() && mechanism != "LOGIN") response = client.step("");
    for (int n = 0; n < 10; ++n) {
        auto step = server->step(response ? std::optional<std::string_view>(*response) : std::nullopt);
        if (step.is == Is::challenge || !step.data.empty()) response = client.step(step.data);
        if (step.is == Is::success) CHECK(step.user == "us,er");
        if (step.is != Is::challenge) return step.is == Is::success && client.done();
        if (!response) return false;
    }
    return false;
}

// Whether our client and libgsasl's server agree.
bool their_server(const std::string& mechanism, const std::string& password) {
    Line line;
    line.encrypt();
    if (binds(mechanism)) line.bind("tls-exporter", binding);
    const SaslLogin login({.user = "us,er", .password = password, .mechanisms = {mechanism}});
    std::string why;
    auto client = login.begin({mechanism}, line.channel, why);
    REQUIRE(client);
    Peer::Properties properties{{GSASL_PASSWORD, "pencil"}};
    if (binds(mechanism)) properties[GSASL_CB_TLS_EXPORTER] = base64_encode(binding);
    Peer server(Peer::Side::server, mechanism, std::move(properties));
    auto response = client->step(std::nullopt);
    for (int n = 0; n < 10; ++n) {
        auto challenge = server.step(response.value_or(""));
        if (!challenge) return false;
        const bool over = server.done();
        if (!over || !challenge->empty()) response = client->step(*challenge);
        if (over) return client->complete();
        if (!response) return false;
    }
    return false;
}

}  // namespace

TEST_CASE("libgsasl's client logs in at our server, with the password and only with it") {
    for (const char* mechanism : mechanisms) {
        CAPTURE(mechanism);
        CHECK(their_client(mechanism, "pencil"));
        if (std::string_view(mechanism) != "EXTERNAL") CHECK_FALSE(their_client(mechanism, "Pencil"));
    }
}

TEST_CASE("our client logs in at libgsasl's server, with the password and only with it") {
    for (const char* mechanism : mechanisms) {
        CAPTURE(mechanism);
        CHECK(their_server(mechanism, "pencil"));
        if (std::string_view(mechanism) != "EXTERNAL") CHECK_FALSE(their_server(mechanism, "Pencil"));
    }
}

TEST_CASE("keys are the ones that libgsasl derives") {
    const auto keys = scram_keys("pencil", 4096, "a salt");
    char salted[32], client[32], server[32], stored[32];
    REQUIRE(gsasl_scram_secrets_from_password(GSASL_HASH_SHA256, "pencil", 4096, "a salt", 6, salted, client, server,
                                              stored) == GSASL_OK);
    CHECK(keys.server_key == std::string(server, 32));
    CHECK(keys.stored_key == std::string(stored, 32));
}
