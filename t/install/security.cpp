// security -- a stranger's program with TLS and SASL: a line for an auth file, and a certificate that is not there.
#include <Net/SMTP/Server.hpp>
#include <Net/SMTP/Server/AuthFile.hpp>
#include <Net/SMTP/Server/Sasl.hpp>
#include <cstdio>
#include <exception>
#include <string>

using namespace Net::SMTP;

int main() {
    const auto line = auth_line("me", "secret");
    std::printf("%s", line.substr(line.find('{') + 1, line.find('}') - line.find('{') - 1).c_str());
    try {
        ServerTLS tls("missing.pem", "missing.key");
    } catch (const std::exception& e) {
        if (std::string(e.what()).find("missing.") != std::string::npos) std::printf(", no TLS\n");
    }
    return line.starts_with("me:") ? 0 : 1;
}
