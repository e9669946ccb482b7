#Requires -RunAsAdministrator
# Connection office, made by Martlet for Windows 10 and 11. Run it from its folder in a
# PowerShell that was opened as administrator:
#   powershell -ExecutionPolicy Bypass -File office.ps1
$ErrorActionPreference = 'Stop'
$name = 'office'

# The certificates beside this script must be those that it was made with.
function Test-Hash($certificate, $expected, $file) {
    $hash = [BitConverter]::ToString([Security.Cryptography.SHA256]::Create().ComputeHash($certificate.RawData)) -replace '-'
    if ($hash -ne $expected) { throw ($file + ' is another certificate than the script was made with; its SHA-256 is ' + $hash) }
}

$file = Join-Path $PSScriptRoot 'office-ca.cer'
$ca = New-Object Security.Cryptography.X509Certificates.X509Certificate2 $file
Test-Hash $ca 'HASH' $file
Import-Certificate -FilePath $file -CertStoreLocation 'Cert:\LocalMachine\Root' | Out-Null
if (-not (Test-Path ('Cert:\LocalMachine\Root\' + $ca.Thumbprint))) { throw ($file + ' was not imported') }
$eap = New-EapConfiguration # EAP-MSCHAPv2

if (Get-VpnConnection -Name $name -AllUserConnection -ErrorAction SilentlyContinue) {
    Remove-VpnConnection -Name $name -AllUserConnection -Force
}
Add-VpnConnection -Name $name -ServerAddress 'vpn.example.com' -TunnelType Ikev2 -AllUserConnection `
    -EncryptionLevel Maximum -RememberCredential -AuthenticationMethod Eap -EapConfigXmlStream $eap.EapConfigXmlStream
Set-VpnConnectionIPsecConfiguration -ConnectionName $name -AllUserConnection -Force `
    -EncryptionMethod GCMAES256 -IntegrityCheckMethod SHA256 -DHGroup ECP384 `
    -CipherTransformConstants GCMAES256 -AuthenticationTransformConstants GCMAES256 -PfsGroup ECP384
Set-VpnConnection -Name $name -AllUserConnection -SplitTunneling $false -Force -WarningAction SilentlyContinue
Add-VpnConnectionRoute -ConnectionName $name -AllUserConnection -DestinationPrefix '2000::/3'
Write-Host ('The connection ' + $name + ' is there: open it in the settings, or by rasdial.')
