// SaslScram -- the messages of SCRAM-SHA-256 (RFC 5802, RFC 7677), read strictly; for our own .cpp files only, it is
// not installed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "Sasl.hpp"

namespace Net::SMTP::Scram {

// ',' and '=' as "=2C" and "=3D" (RFC 5802 5.1, saslname), and back: nullopt for any other '=', a ',' or a NUL.
std::string escape(std::string_view name);
std::optional<std::string> unescape(std::string_view name);

// What mechanisms that use GS2 begin with (RFC 5801 4): "n,a=name,".
struct Header {
    char flag = 'n';        // 'n', 'y', or 'p': with channel binding
    std::string binding{};  // of 'p': the type
    std::string acts_as{};  // the authorization identity, "" for none
    std::string_view text{};
};
// Takes the header from the front of the message.
std::optional<Header> take_header(std::string_view& message);

struct ClientFirst {
    Header header{};
    std::string user{};
    std::string nonce{};
    std::string_view bare{};  // the message without the header
};
std::optional<ClientFirst> read_client_first(std::string_view message);

struct ServerFirst {
    std::string nonce{}, salt{};
    unsigned iterations = 0;
};
std::optional<ServerFirst> read_server_first(std::string_view message);
std::string write(const ServerFirst&);

struct ClientFinal {
    std::string binding{};  // header and channel binding data
    std::string nonce{}, proof{};
    std::string_view without_proof{};
};
std::optional<ClientFinal> read_client_final(std::string_view message);

// RFC 5802 3. `dialogue` is AuthMessage; `stored_key` is H(ClientKey).
std::string dialogue(std::string_view client_first_bare, std::string_view server_first,
                     std::string_view client_final_without_proof);
bool proves(const ScramKeys&, std::string_view dialogue, std::string_view proof);
std::string proof(std::string_view client_key, std::string_view stored_key, std::string_view dialogue);
std::string signature(const ScramKeys&, std::string_view dialogue);

// 24 characters, 144 bits of chance.
std::string new_nonce();

}  // namespace Net::SMTP::Scram
